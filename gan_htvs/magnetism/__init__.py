"""Magnetism: initial moments, magnetic orderings, and k-point meshes that keep their symmetry."""
