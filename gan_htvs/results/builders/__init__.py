"""maggma Builders: job outputs -> candidates."""
