"""What a result looks like: a table, CSV, one HTML page."""
