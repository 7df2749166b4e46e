"""Trains the models that the compiler packs: needs the extra `train` (torch, tokenizers)."""
