"""Diagnostics of this machine and its databases, with a fix for each problem."""
