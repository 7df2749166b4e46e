"""Finds model files and reads what they say about themselves."""
