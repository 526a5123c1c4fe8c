"""Proposers of structures: the generator, and the baselines beside it."""
