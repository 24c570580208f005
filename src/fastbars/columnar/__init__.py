"""Columns in, columns out: `aggregate()`, `BarBatch`, and Arrow."""
