"""How work reaches machines: command line, launchpad, local workers, embedded database."""

from launchers.launchpad.foreign_settings import guard_fireworks

guard_fireworks()
