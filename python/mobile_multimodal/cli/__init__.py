"""Offers the package on the command line as `mobile-mm`."""
