"""fastbars beside other libraries that make bars or receive messages: `make bench-peers`."""
