"""Packages that tests install from the registries, each set once for each version of its lock, in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

_NODE_FILES: Final = ("package.json", "package-lock.json", ".npmrc")
_INSTALL_WITHIN_S: Final = 900


class NotInstalledError(Exception):
    """A set can't be installed here; the text says why."""


def node_modules(locked: Path, name: str) -> Path:
    """Return `node_modules` with exactly what the lock in this folder names. Raises `NotInstalledError`."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NotInstalledError("Node.js 20 or newer with npm is not on the PATH")
    files = [locked / file for file in _NODE_FILES]

    def install(folder: Path) -> None:
        for file in files:
            shutil.copy(file, folder / file.name)
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)

    return _once(name, files, install) / "node_modules"


def python_with(lock: Path, name: str) -> str:
    """Return a Python that has exactly what the lock names, from wheels, by hash. Raises `NotInstalledError`."""

    def install(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", "--clear", "venv"], folder)
        pip = ["venv/bin/python", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
        _run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)], folder)

    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return str(_once(f"{name}-py{version}", [lock], install) / "venv" / "bin" / "python")


def _once(name: str, files: Sequence[Path], install: Callable[[Path], None]) -> Path:
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "satmeter-tests" / f"{name}-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Another run may be installing just now.
        if not (cache / "complete").exists():
            install(cache)
            (cache / "complete").touch()
    return cache


def _run(words: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalledError(f"{' '.join(words[:4])} took longer than {_INSTALL_WITHIN_S} s") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalledError(f"{' '.join(words[:4])}: {said[-1] if said else done.returncode}")
