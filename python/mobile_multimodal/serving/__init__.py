"""Puts a model file behind HTTP: needs the extra `serve`; nothing below imports it."""
