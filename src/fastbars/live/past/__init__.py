"""Bars and trades of the past, for a stream that begins with them and for `fastbars.history`."""
