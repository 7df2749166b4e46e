"""Holds the addresses of the API, one file a family."""
