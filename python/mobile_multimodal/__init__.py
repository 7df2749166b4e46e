"""Captions pictures on the device from one small file: the public names of the package."""
