"""The private directory of a server: those of servers that are gone are removed, also after a reboot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from satmeter.config import private_dir
from satmeter.config.private_dir import make_private_dir, prefix_of, private_dirs


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(private_dir, "ROOT", str(tmp_path))
    return tmp_path


def _left(root: Path, pid: int) -> Path:
    """Make what a server of this number leaves."""
    left = root / f"{prefix_of(pid)}abcdefgh"
    (left / "r" / "session_1").mkdir(parents=True)
    left.chmod(0o700)
    return left


def test_what_a_dead_server_left_is_removed_and_what_a_living_one_has_is_not(root: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, living = _left(root, ended.pid), _left(root, os.getppid())
    ours = make_private_dir()
    assert not dead.exists() and living.exists()
    assert set(private_dirs()) == {ours, living}


def test_a_directory_of_our_own_number_is_of_another_life(root: Path) -> None:
    """In a container the server has the same number after each start, and /tmp may outlive it."""
    stale = _left(root, os.getpid())
    ours = make_private_dir()
    assert list(private_dirs()) == [ours] and not stale.exists()
