"""Diagnostics of this machine and its databases, with the fix of each problem."""
