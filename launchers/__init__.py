"""How work reaches machines: command line, launchpad, local workers, embedded database."""

from launchers.foreign_settings import guard_fireworks

guard_fireworks()
