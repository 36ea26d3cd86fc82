"""Processes of the machine, and the descendants of one, as the operating system lists them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

# Linux lists them as files, which exist in every container, and are fast to read.
_PROC: Final = Path("/proc")
_PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024
# The options of prctl(2), from linux/prctl.h.
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
# The option `ww` is needed, as ps cuts command lines at a terminal's width, even without a terminal.
_LIST = ("ps", "-axwwo", "pid=,ppid=,stat=,rss=,args=")


class Process(NamedTuple):
    """A living process: its command line (or the title that it gave itself) and resident memory."""

    parent: int
    command: str
    resident_kb: int


def ending_of(status: int | None) -> dict[str, int | str | None]:
    """Return how a process ended, as fields of a log entry: by its exit status, or by a signal."""
    return {"signal": signal.Signals(-status).name} if status is not None and status < 0 else {"exit_status": status}


def all_processes() -> dict[int, Process]:
    """Return all living processes by pid; zombies are left out."""
    return _of_proc() if (_PROC / "self" / "stat").exists() else _of_ps()


def _of_proc() -> dict[int, Process]:
    found = {}
    for name in os.listdir(_PROC):  # noqa: PTH208 - hundreds of names, no paths are needed
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):  # The process has just ended.
                # "pid (name) state parent ...": the name may hold spaces and brackets.
                state, parent, *rest = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                if state not in "ZX":
                    command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").strip()
                    found[int(name)] = Process(int(parent), command.decode(errors="replace"), int(rest[19]) * _PAGE_KB)
    return found


def _of_ps() -> dict[int, Process]:
    import subprocess

    listing = subprocess.run(_LIST, capture_output=True, text=True, check=True)
    found = {}
    for line in listing.stdout.splitlines():
        pid, parent, state, resident_kb, *command = line.split(None, 4)
        if not state.startswith("Z"):
            found[int(pid)] = Process(int(parent), command[0] if command else "", int(resident_kb))
    return found


def descendants(root_pid: int) -> dict[int, Process]:
    """Return the descendants of this process, by pid."""
    table = all_processes()
    tree = {root_pid}
    while more := {pid for pid, process in table.items() if process.parent in tree} - tree:
        tree |= more
    return {pid: table[pid] for pid in tree if pid in table and pid != root_pid}


def end(pids: Iterable[int]) -> None:
    """Kill those of these processes that still live."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def die_with_parent(signum: int) -> None:
    """Have Linux send this process a signal when its parent dies; 0 for none."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)


def dying_with_us() -> Callable[[], None] | None:
    """Return what a child runs before its program, so that Linux sends it SIGTERM when the starting *thread* ends."""
    if sys.platform != "linux":
        return None
    # Everything that may allocate or import is done before the fork, as another thread may hold a lock then.
    prctl, parent_pid, getppid, exit_now = ctypes.CDLL(None).prctl, os.getpid(), os.getppid, os._exit

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if getppid() != parent_pid:
            exit_now(1)  # The parent died between the fork and the prctl; its signal will not come any more.

    return set_death_signal


def adopt_orphans() -> None:
    """Have Linux make processes below this one its children when they lose their parent, so that none gets away."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
