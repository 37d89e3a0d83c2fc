"""The HTML report over finished runs."""
