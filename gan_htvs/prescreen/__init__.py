"""Interatomic potentials that sift structures before anything expensive sees them."""
