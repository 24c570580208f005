"""Live connections: configuration, session, connection states, the adapter."""
