"""Private directory of a running server, for its sockets and for an own Ray: no other user of the machine gets in.

Its path is short, as the paths of unix sockets end at 107 bytes. Ray lives one level below: it opens its own directory
to all users, and can't open this one.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# TMPDIR is long on macOS.
ROOT: Final = "/tmp"  # noqa: S108
RAY: Final = "r"
"""Name of Ray's own directory below it."""


def make_private_dir() -> Path:
    """Make a new directory, and remove those of killed servers."""
    for path in Path(ROOT).glob(f"satmeter-{os.getuid()}-*"):
        pid = path.name.removeprefix(f"satmeter-{os.getuid()}-").partition("-")[0]
        # A container's processes have the same numbers after each of its starts: one of this number is of another life.
        if pid.isdigit() and (int(pid) == os.getpid() or not _is_alive(int(pid))):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix_of(os.getpid()), dir=ROOT))


def prefix_of(pid: int) -> str:
    """Return the prefix of the directory's name for this server process."""
    return f"satmeter-{os.getuid()}-{pid}-"


def private_dirs() -> Iterator[Path]:
    """Yield the directories of this user's servers. Another user's of such a name are left out."""
    for path in sorted(Path(ROOT).glob(f"satmeter-{os.getuid()}-*")):
        try:
            found = path.lstat()
        except OSError:
            continue
        closed = stat.S_ISDIR(found.st_mode) and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        if closed and found.st_uid == os.getuid():
            yield path


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
