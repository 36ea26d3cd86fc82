"""Messages about a start that fails or takes long, with advice on what to do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
_TELL_EVERY_S: Final = 10.0
# The descriptors that a process uses beside its connections, and the limit under which a warning is shown.
_FILES_OF_ITS_OWN: Final = 200
_FILES_FEW: Final = 4_096
_BUSY_PER_CPU: Final = 2.0
_REMEDIES: Final = {
    errno.EACCES: "give a --data-dir that is yours, or run this as its owner",
    errno.EPERM: "give a --data-dir that is yours, or run this as its owner",
    errno.EROFS: "give a --data-dir on a disk that can be written to",
    errno.ENOSPC: "make room on its disk, or give a --data-dir on another one",
    errno.EDQUOT: "make room on its disk, or give a --data-dir on another one",
    errno.ENOENT: "give a --data-dir that can be made",
    errno.ENOTDIR: "give a --data-dir that is a directory",
    errno.EEXIST: "give a --data-dir that is a directory",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the machine has too many files open",
    errno.ENOMEM: "the machine has too little memory",
    errno.EAGAIN: "the machine lets no more processes be started (ulimit -u), or has too little memory",
}


class StartError(Exception):
    """A start that fails; the text says why and what to do."""


def of_os_error(error: OSError) -> str:
    """Return a sentence with the unusable file, the reason, and the remedy."""
    where = f"{error.filename}: " if error.filename else ""
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{where}{error.strerror or error}{f': {remedy}' if remedy else ''}."


def busy() -> str:
    """Return a sentence with the load of a busy machine, or an empty text."""
    cpus = os.cpu_count() or 1
    waiting = max(os.getloadavg()[0], _runnable())
    return (
        f" The machine is busy: {waiting:.0f} programs want its {cpus} CPUs." if waiting > _BUSY_PER_CPU * cpus else ""
    )


def _runnable() -> float:
    """Return the number of runnable threads, only on Linux; the load average would take a minute to rise."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return 0.0


def words_of(answer: str) -> str:
    """Return the sentence of an error body; the whole body where it has none."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(answer)["error"])
    return answer


def few_files() -> str | None:
    """Return a warning if the limit of open files leaves few connections, else None."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY or limit >= _FILES_FEW:
        return None
    left = max(0, limit - _FILES_OF_ITS_OWN)
    return (
        f"Only {limit:,} files may be open at once (ulimit -Hn): clients beyond some {left:,} connections at a time "
        "have to wait. Raise the limit to serve more."
    )


async def patiently(
    work: Awaitable[T], text: str, tell: Callable[[str], None], *, tell_every_s: float = _TELL_EVERY_S
) -> T:
    """Wait for the work, and report now and then that it goes on."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=tell_every_s))[0]:
            tell(f"{text}: this takes its time.{busy()}")
        return task.result()
    finally:
        task.cancel()
