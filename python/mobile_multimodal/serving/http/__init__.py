"""Reads and bounds requests, and writes answers, whatever they are about."""
