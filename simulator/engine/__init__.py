"""The event engine, what a design implements, and the accounting that turns its costs into a result."""
