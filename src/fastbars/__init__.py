"""fastbars."""
