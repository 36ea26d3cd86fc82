"""A machine of its own for a test: this one's files under an overlay, booted by the real systemd in a container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from satmeter.scripts.processes import all_processes
from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S, PROGRAM_S
from tests.helpers.served import patiently

# Whatever this machine starts at its own boot stays away from the other one.
_WANTS = "*.wants"
_ROOM = "2g"


class Booted:
    """A machine that runs, or is off. It shares this one's network."""

    def __init__(self, program: str, root: Path, log: Path, *options: str) -> None:
        self._command = [program, "--quiet", f"--directory={root}", "--register=no", "--keep-unit", "--boot", *options]
        self.root = root
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Return once systemd has come up."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ending_with_us(self._command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        patiently(self._is_up, f"it does not boot: {self._log}")

    def _is_up(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log()
        return self._leader() is not None and self.run("systemctl is-system-running")[1].strip() in (
            "running",
            "degraded",
        )

    def _leader(self) -> int | None:
        """Its first process, by its number here."""
        assert self._process is not None
        found = all_processes()
        below = [pid for pid, process in found.items() if process.parent == self._process.pid]
        return next((pid for pid in below if "systemd" in found[pid].command.split("/")[-1]), None)

    def run(self, script: str, timeout_s: float = PROGRAM_S) -> tuple[int, str]:
        """Run a script as root in it; return its status and output."""
        leader = self._leader()
        assert leader is not None, "it is off"
        into = [
            "nsenter",
            f"--target={leader}",
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            f"--root=/proc/{leader}/root",
        ]
        done = subprocess.run(
            [
                *into,
                "/usr/bin/env",
                "-i",
                "HOME=/root",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
                "bash",
            ],
            input=f"cd\n{script}",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return done.returncode, done.stdout

    def good(self, script: str) -> str:
        """Run a script that must succeed, and return its output."""
        status, out = self.run(f"set -euo pipefail\n{script}")
        assert status == 0, out
        return out

    def cut_power(self) -> None:
        """End all of its processes at once, as a power cut does."""
        assert self._process is not None
        leader = self._leader()
        if leader is not None:
            os.kill(leader, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE_S)

    def log(self) -> str:
        """Return the end of what the container wrote."""
        return self._log.read_text(errors="replace")[-3_000:]


@contextmanager
def machine(program: str, *options: str) -> Iterator[Booted]:
    """A machine that is off, whose changes are forgotten at the end; `options` are those of systemd-nspawn."""
    with tempfile.TemporaryDirectory(prefix="sm-boot-", dir="/tmp") as name:
        place = Path(name)
        layers, root = place / "layers", place / "root"
        layers.mkdir()
        root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", layers], check=True)
        try:
            (layers / "upper").mkdir()
            (layers / "work").mkdir()
            over = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work"
            subprocess.run(["mount", "-t", "overlay", "overlay", "-o", over, root], check=True)
            try:
                for wants in (root / "etc" / "systemd" / "system").glob(_WANTS):
                    shutil.rmtree(wants)
                found = Booted(program, root, place / "log", *options)
                try:
                    yield found
                finally:
                    if found._process is not None:
                        found.cut_power()
            finally:
                subprocess.run(["umount", "--lazy", root], check=True)
        finally:
            subprocess.run(["umount", "--lazy", layers], check=True)
