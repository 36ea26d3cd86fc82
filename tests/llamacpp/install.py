"""Installs llama.cpp, once for each user and version, in a virtual environment of its own: 170 MB of wheels."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

_REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
_INSTALLS_WITHIN_S: Final = 600


class InstallError(Exception):
    """llama.cpp can't be installed here; the text says why."""


def installed() -> Path:
    """The Python of an environment that has llama.cpp. Installs it first, which takes some seconds.

    Raises `InstallError`.
    """
    version = f"py{sys.version_info[0]}.{sys.version_info[1]}"
    home = _cache_dir() / f"llamacpp-{version}-{hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:12]}"
    home.mkdir(parents=True, exist_ok=True)
    python, complete = home / "venv" / "bin" / "python", home / "complete"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Another run may be installing just now.
        if not (complete.exists() and python.exists()):
            complete.unlink(missing_ok=True)
            _run(sys.executable, "-m", "venv", "--clear", str(python.parents[1]))
            pip = (str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check")
            _run(*pip, "--only-binary", ":all:", "--require-hashes", "--requirement", str(_REQUIREMENTS))
            complete.touch()
    return python


def model_folder() -> Path:
    """The folder in which the model's file is kept; a new edition of it has another name."""
    folder = _cache_dir() / "llamacpp-models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALLS_WITHIN_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallError(f"llama.cpp could not be installed: {type(error).__name__}") from error
    if done.returncode != 0:
        raise InstallError(f"llama.cpp could not be installed: {done.stderr.strip()[-500:]}")


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "satmeter-tests"
