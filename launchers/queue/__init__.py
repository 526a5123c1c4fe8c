"""Files for batch systems: what `gan-htvs queue` renders and checks."""
