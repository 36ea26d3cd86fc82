"""Private directory of an own Ray cluster. Its path is short, as the paths of unix sockets end at 107 bytes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

# TMPDIR is long on macOS.
ROOT: Final = "/tmp"  # noqa: S108


def make_ray_dir() -> Path:
    """Make a new directory, and remove those of killed servers."""
    for path in Path(ROOT).glob(f"satmeter-{os.getuid()}-*"):
        pid = path.name.removeprefix(f"satmeter-{os.getuid()}-").partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix_of(os.getpid()), dir=ROOT))


def prefix_of(pid: int) -> str:
    """Return the prefix of the directory's name for this server process."""
    return f"satmeter-{os.getuid()}-{pid}-"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
