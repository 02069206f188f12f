"""The operators in pure torch: oracle of the tests, fallback everywhere, readable definition."""
