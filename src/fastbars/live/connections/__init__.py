"""Connections: opening, subscribing, keeping alive, and replacing them."""
