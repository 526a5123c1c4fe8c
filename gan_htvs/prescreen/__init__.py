"""Screening with interatomic potentials before expensive calculations."""
