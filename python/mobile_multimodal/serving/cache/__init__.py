"""Keeps answers, in memory and in Redis, and works each question out once at a time."""
