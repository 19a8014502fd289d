"""Ctrl-C, SIGTERM and a deadline wait for the end of a step, so that weights are never half updated (lesson 10)."""

import math
import signal
import threading
import time

from sora_edu.errors import Stopped

TIME_UP = 1  # beside the numbers of signals, below those that are deferred


class Interrupt:
    """Notes Ctrl-C and SIGTERM while a step is under way; the loop acts on them when it is done.

    ``deadline``, in seconds of time.monotonic, asks for an end as a signal does.
    """

    def __init__(self, deadline: float = math.inf):
        self.deadline = deadline

    def __enter__(self) -> "Interrupt":
        self.received = 0
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._receive)
        return self

    def pending(self) -> int:
        """The signal that was received, TIME_UP after the deadline, or 0."""
        return self.received or (TIME_UP if time.monotonic() > self.deadline else 0)

    def _receive(self, number, frame) -> None:
        self.received = number

    def __exit__(self, *_) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def act(self, number: int) -> None:
        """Raise what was deferred: KeyboardInterrupt after Ctrl-C, Stopped after SIGTERM or when time is up."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number:
            raise Stopped(None if number == TIME_UP else number)
