"""Columns in, columns out: `aggregate()`, `BarBatch`, Arrow, and several threads."""
