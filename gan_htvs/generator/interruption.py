"""Signals that end a process, held back until it has written down where it is."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What batch systems (SLURM's ``--signal=USR1@120`` among them), FireWorks and Ctrl-C send."""


class HeldSignals:
    """Within the block, note a stop signal; after it, let it do what it would have done.

    A signal that is ignored stays so. Python allows handlers in the main thread only: in any other
    this does nothing.

    Attributes
    ----------
    received
        The last stop signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in STOP_SIGNALS:
                handler = signal.getsignal(signum)
                if handler not in (signal.SIG_IGN, None):  # None: not set from Python
                    self._handlers[signum] = handler
                    signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        if self.received is not None:
            signal.raise_signal(self.received)

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(signum)
