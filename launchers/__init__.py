"""How work reaches machines: command line, launchpad, local workers, embedded database."""
