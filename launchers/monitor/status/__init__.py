"""How campaigns stand: what is done, who works, how long it takes, and what hinders."""
