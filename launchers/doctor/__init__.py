"""What works on this machine, and what cures the rest."""
