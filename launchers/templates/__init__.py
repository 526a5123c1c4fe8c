"""Files that ``gan-htvs init`` and ``gan-htvs demo`` start from."""
