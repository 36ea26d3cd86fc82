"""Output files of commands."""

from __future__ import annotations

import os
from pathlib import Path


def writable(path: Path) -> bool:
    """Return True if a file can be written there; commands check it before the work, not after it."""
    return path.parent.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK) and not path.is_dir()
