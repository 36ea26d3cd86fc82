"""Lifeline: pipes between a child process and its parent, by which each notices the end of the other."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...config.given_environment import give_back
from ..processes import die_with_parent
from .environment import LAUNCHED_BY


class Lifeline:
    """A pipe whose other end closes with the parent, however it dies: otherwise this process would never end.

    Until `when_cut` is called, the process then ends at once: connecting to a dead parent's services can take minutes.
    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._end: Callable[[], None] = _exit
        self._told: Callable[[], None] | None = None
        # Ray blocks the interpreter as it connects, so that the thread can come too late.
        die_with_parent(signal.SIGKILL)
        threading.Thread(target=self._watch, daemon=True).start()

    def when_cut(self, end: Callable[[], None]) -> None:
        """Have `end` called in a separate thread when the parent dies, instead of ending at once."""
        self._end = end
        die_with_parent(0)

    def when_told(self, stop: Callable[[], None]) -> None:
        """Have `stop` called, in that thread, when the parent writes something."""
        self._told = stop

    def _watch(self) -> None:
        # Reads without Python's buffer, whose lock would still be held when the interpreter ends.
        while os.read(self._fd, 1_024):
            if self._told is not None:
                self._told()
        self._end()


class Launcher:
    """The launcher of this server, if any: it gets reports on the start and the end."""

    def __init__(self, fd: int | None, lifeline: Lifeline | None = None) -> None:
        self._fd = fd
        self._lifeline = lifeline

    @classmethod
    def of_environment(cls) -> Launcher:
        """Return the launcher whose pipes the environment names, and take the secrets that it took out of it.

        Child processes inherit neither.
        """
        named = os.environ.pop(LAUNCHED_BY, "")
        if not named:
            return cls(None)
        lifeline_fd, report_fd, secrets_fd = map(int, named.split(","))
        with os.fdopen(secrets_fd, "rb") as secrets:
            give_back(json.loads(secrets.read() or b"{}"))
        for fd in (lifeline_fd, report_fd):
            os.set_inheritable(fd, False)
        return cls(report_fd, Lifeline(lifeline_fd))

    def when_told(self, stop: Callable[[], None]) -> None:
        """Have `stop` called in a separate thread when the server should end. Ray's C++ code would catch signals."""
        if self._lifeline is not None:
            self._lifeline.when_told(stop)
            self.tell(listening=True)

    def tell(self, **report: Any) -> None:
        """Report `serving=True` once the server serves, and `status=n` when everything but this process has ended."""
        if self._fd is not None:
            with suppress(OSError):
                os.write(self._fd, json.dumps(report).encode() + b"\n")


def _exit() -> None:
    os._exit(1)
