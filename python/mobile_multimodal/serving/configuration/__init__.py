"""Holds what an operator may choose, and reads it from flags, environment and a file."""
