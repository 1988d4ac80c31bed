"""Feature state in Redis: the wire to it, and whether a server is fit to hold state."""
