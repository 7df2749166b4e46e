"""Decides who may ask, and how often."""
