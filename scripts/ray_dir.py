"""The private directory of a Ray cluster of our own. Its path is short: unix sockets below it end at 107 bytes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def make_ray_dir() -> Path:
    """A new one; those of servers that were killed are cleared away."""
    root = Path("/tmp")  # noqa: S108 - unix socket paths end at 107 bytes, and TMPDIR is long on macOS
    prefix = f"satmeter-{os.getuid()}-"
    for path in root.glob(f"{prefix}*"):
        pid = path.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=root))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
