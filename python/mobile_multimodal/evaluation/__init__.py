"""Measures captioners: metrics with intervals, over a data folder."""
