"""Installs LNbits, once for each user and version, in a virtual environment of its own: its pins are not ours."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.helpers.patience import PATIENCE_S

VERSION: Final = "1.6.2"
_CONSTRAINTS: Final = Path(__file__).with_name("constraints.txt")
# What LNbits itself demands (`requires-python` of its package).
_PYTHON_MIN: Final = (3, 10)
_PYTHON_MAX: Final = (3, 12)
_INSTALLS_WITHIN_S: Final = 600


class InstallError(Exception):
    """LNbits can't be installed; the text says what to do about it."""


def installed() -> Path:
    """The Python of an environment that has LNbits. Installs it first, which takes about a minute.

    Raises `InstallError`.
    """
    home = _cache_dir() / f"lnbits-{VERSION}-{_fingerprint()}"
    home.mkdir(parents=True, exist_ok=True)
    python, complete = home / "venv" / "bin" / "python", home / "complete"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Another run may be installing just now.
        if not (complete.exists() and _version_of(str(python)) is not None):
            complete.unlink(missing_ok=True)
            _install(python)
            complete.touch()
    return python


def _install(python: Path) -> None:
    _run(find_python(), "-m", "venv", "--clear", str(python.parents[1]))
    pip = (str(python), "-m", "pip", "install", "--quiet", "--no-input", "--no-compile", "--disable-pip-version-check")
    _run(*pip, "--constraint", str(_CONSTRAINTS), f"lnbits=={VERSION}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALLS_WITHIN_S, check=False)
    if done.returncode != 0:
        raise InstallError(f"LNbits {VERSION} could not be installed:\n{done.stdout[-2_000:]}{done.stderr[-2_000:]}")


def find_python() -> str:
    """A Python that LNbits runs on. Raises `InstallError` when there is none."""
    for candidate in _candidates():
        version = _version_of(candidate)
        if version is not None and _PYTHON_MIN <= version <= _PYTHON_MAX:
            return candidate
    raise InstallError(
        f"The Lightning tests run against a real LNbits {VERSION}, which needs Python 3.10, 3.11 or 3.12, and none was "
        "found. Install one beside the Python that runs the tests, or name one that is not on the PATH: "
        "LNBITS_PYTHON=/path/to/python3.12"
    )


def _candidates() -> Iterator[str]:
    yield from filter(None, (os.environ.get("LNBITS_PYTHON"), sys.executable))
    yield from filter(None, (shutil.which(f"python3.{minor}") for minor in (12, 11, 10)))
    yield from (str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"), reverse=True))


def _version_of(python: str) -> tuple[int, int] | None:
    """Its version, None when it doesn't run or can't make environments."""
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "satmeter-tests"


def _fingerprint() -> str:
    return hashlib.sha256(_CONSTRAINTS.read_bytes()).hexdigest()[:12]
