"""A stream as a service: configuration, web server, metrics, a page."""
