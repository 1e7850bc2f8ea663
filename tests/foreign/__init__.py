"""Clients that are not ours, against the simulator, unchanged but for the URL."""
