"""Offers what the models can do, one method a task."""
