"""Archives of trades, as exchanges and data vendors publish them: files to columns, and columns to bars."""
