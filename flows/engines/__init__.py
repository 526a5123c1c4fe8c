"""Engines: which code computes which property."""
