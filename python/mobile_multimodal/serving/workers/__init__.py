"""Runs jobs on worker processes that share the mapped model: needs no package that the runtime does not need."""
