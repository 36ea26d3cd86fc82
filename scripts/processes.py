"""The processes below one of ours, as the operating system lists them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

# Wide: ps cuts command lines at the width of a terminal, even where there is none.
_LIST = ("ps", "-axwwo", "pid=,ppid=,stat=,rss=,args=")


@dataclass(frozen=True, slots=True)
class Process:
    """A living process: its command line (or the title that it gave itself) and resident memory."""

    parent: int
    command: str
    resident_kb: int


def all_processes() -> dict[int, Process]:
    """All living processes by pid; dead ones that nobody has waited for are left out."""
    listing = subprocess.run(_LIST, capture_output=True, text=True, check=True)
    found = {}
    for line in listing.stdout.splitlines():
        pid, parent, state, resident_kb, *command = line.split(None, 4)
        if not state.startswith("Z"):
            found[int(pid)] = Process(int(parent), command[0] if command else "", int(resident_kb))
    return found


def descendants(root_pid: int) -> dict[int, Process]:
    """The processes below this one, by pid."""
    table = all_processes()
    tree = {root_pid}
    while more := {pid for pid, process in table.items() if process.parent in tree} - tree:
        tree |= more
    return {pid: table[pid] for pid in tree if pid in table and pid != root_pid}


def end(pids: Iterable[int]) -> None:
    """Kills what is left of these."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
