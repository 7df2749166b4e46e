"""Tells operators what the server does: logs, metrics, traces."""
