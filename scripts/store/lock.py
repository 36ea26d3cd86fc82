"""Lock of a data directory for one server, and the end of a store process that a killed server left in it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from .binary import StoreError

_ORPHAN_ENDS_WITHIN_S: Final = 10.0


class DataDirLock:
    """An exclusive lock on a data directory, held until `release` or the end of the process, however it ends.

    A process forked from the holder without an exec would hold it too, so start workers with `spawn`.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """True while this object holds the lock."""
        return self._fd is not None

    def acquire(self) -> None:
        """Take the lock. Raises `StoreError` naming the process that has it."""
        fd = os.open(self._data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StoreError(
                f"The data directory {self._data_dir} is in use by another server (process id {holder}): "
                "stop that one, or give this one a --data-dir of its own."
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def release(self) -> None:
        """Release the lock; the file stays, as removing it would let two servers lock two different files."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def in_use(data_dir: Path) -> bool:
    """Return True if a server, or a command that started the store for itself, has the data directory now."""
    try:
        fd = os.open(data_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def process_mark(store_dir: Path) -> str:
    """Return a mark in the title of the store's process that tells it from all others, also after a reboot."""
    return "satmeter-" + hashlib.sha256(os.fsencode(store_dir)).hexdigest()[:16]


def end_orphan(pid_file: Path, mark: str) -> None:
    """End the store process that the pid file names, if it still runs and has the mark.

    The caller holds the data directory's lock, so the starter of that process is gone. Blocks until it has ended.
    Raises `StoreError` when it does not end.
    """
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return
    # Every write was on disk before it was acknowledged, so killing a store that hangs loses nothing.
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _ORPHAN_ENDS_WITHIN_S
        if not _bears(pid, mark):
            pid_file.unlink(missing_ok=True)
            return
        os.kill(pid, signal_number)
        while _bears(pid, mark) and time.monotonic() < deadline:
            time.sleep(0.01)
    if _bears(pid, mark):
        raise StoreError(f"A store that a former server left can't be ended (process id {pid}): end it by hand.")


def _bears(pid: int, mark: str) -> bool:
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        if Path("/proc/self").exists():
            return False
        command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
        title = subprocess.run(command, capture_output=True, timeout=10, check=False).stdout
    return mark.encode() in title
