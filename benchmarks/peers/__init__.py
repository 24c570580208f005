"""fastbars compared with other libraries that make bars or receive messages: `make bench-peers`."""
