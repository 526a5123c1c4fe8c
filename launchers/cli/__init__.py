"""The ``gan-htvs`` command line: one module for each group of commands."""
