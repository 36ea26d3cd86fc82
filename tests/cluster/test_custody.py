"""A test run that is killed leaves nothing of what it has started: no server, no Ray, no store, no LNbits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from satmeter.scripts.processes import descendants
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import wait_until
from tests.helpers.test_custody import gone

_STARTS_WITHIN_S = 10 * PATIENCE_S  # LNbits may have to be installed first
ROOT = Path(__file__).parents[2]
KINDS = (
    "satmeter serve",
    "satmeter.scripts.server.front",
    "ray::HostActor",
    "raylet",
    "gcs_server",
    "valkey",
    "launch.py",
)
TEST = """
import signal
from pathlib import Path

from tests.lnbits.server import running_lnbits
from tests.helpers.served import served


def test_it():
    here = Path(__file__).parent
    with served(here / "data", SATMETER_HOSTS="1"), running_lnbits():
        (here / "ready").touch()
        signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to an ancestor")
def test_a_killed_run_leaves_no_server(data_dir: Path) -> None:
    folder = data_dir.parent
    (folder / "test_nested.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:valkey", "-p", "no:schemathesis"]
    command += ["-c", os.devnull, "--rootdir", str(folder), str(folder / "test_nested.py")]
    with subprocess.Popen(command, cwd=ROOT) as running:
        try:
            wait_until(lambda: running.poll() is not None or (folder / "ready").exists(), _STARTS_WITHIN_S, "no start")
            started = descendants(running.pid)
            for kind in KINDS:
                assert any(kind in process.command for process in started.values()), kind
        finally:
            running.kill()
        assert running.wait(PATIENCE_S) == -signal.SIGKILL
        gone({running.pid, *started})
