"""A small disk of its own for a server: a tmpfs that nobody else sees, and that is gone with its last process."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served

_SIZE = "32m"
_MOUNT = 'mount -t tmpfs -o size="$0" none "$1" && shift && exec "$@"'
# Who is not root may mount within a user namespace, where the system allows those.
_USER = () if os.geteuid() == 0 else ("--map-root-user",)
_BALLAST = "ballast"


def on_small_disk(directory: Path) -> list[str]:
    """The words that run a command with a small, empty disk at the directory."""
    return ["unshare", "--mount", *_USER, "sh", "-c", _MOUNT, _SIZE, str(directory)]


def can_mount(directory: Path) -> bool:
    """Return whether mounting is possible here."""
    try:
        done = subprocess.run([*on_small_disk(directory), "true"], capture_output=True, timeout=PATIENCE_S, check=False)
    except OSError:
        return False
    return done.returncode == 0


def beside(server: Served) -> list[str]:
    """The words that run a command where the server sees its disk."""
    users = ("--user", "--preserve-credentials") if _USER else ()
    return ["nsenter", f"--target={server.process.pid}", "--mount", *users]


def seen(server: Served, path: Path) -> Path:
    """A path that the server sees, as we do."""
    return Path(f"/proc/{server.process.pid}/root{path}")


def fill(server: Served) -> None:
    """Not a byte more fits on the server's disk."""
    with seen(server, server.data_dir / _BALLAST).open("ab", buffering=0) as file, suppress(OSError):
        while file.write(bytes(65_536)):
            pass


def make_room(server: Served) -> None:
    """Ends what `fill` did."""
    seen(server, server.data_dir / _BALLAST).unlink()
