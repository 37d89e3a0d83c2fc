"""The paper's tables as data: rows in their order; the published numbers are in the methods' files."""
