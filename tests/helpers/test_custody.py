"""A test run that is killed leaves no process: the real pytest, in the middle of a test that has started some."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from satmeter.scripts.processes import all_processes, descendants
from tests import conftest
from tests.helpers import custody
from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to an ancestor")
ROOT = Path(__file__).parents[2]
# A daemon that has left group, session, environment and parents, as servers do, and ignores signals.
TEST = """
import os, signal, subprocess, sys
from pathlib import Path

DAEMON = '''
import os, signal, sys, time
if os.fork(): sys.exit()
os.setsid()
for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): signal.signal(signum, signal.SIG_IGN)
if os.fork(): sys.exit()
open(sys.argv[1] + ".part", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(600)
'''

def test_it_starts_what_would_go_on():
    pids = Path(__file__).parent / "pids"
    subprocess.run([sys.executable, "-c", DAEMON, str(pids / "daemon")], env={}, check=True)
    subprocess.Popen([sys.executable, "-c", DAEMON.replace("os.fork()", "False"), str(pids / "child")])
    (pids / "test.part").write_text(str(os.getpid()))
    os.rename(pids / "test.part", pids / "test")
    while True:
        signal.sigtimedwait((), 0.1)  # pause() misses a signal that comes just before it
"""


@contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Have processes that are started now heed SIGINT. A shell has those of its background jobs ignore it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


@contextmanager
def nested(folder: Path, *words: str, test: str = TEST) -> Iterator[subprocess.Popen[bytes]]:
    """A pytest of its own over this test, in custody as ours is."""
    (folder / "pids").mkdir()
    (folder / "test_nested.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.helpers.custody"]
    for plugin in ("cacheprovider", "valkey", "schemathesis", "hypothesispytest", "anyio"):
        command += ["-p", f"no:{plugin}"]
    command += ["-c", os.devnull, "--rootdir", str(folder), *words, str(folder / "test_nested.py")]
    with heeding_interrupts(), subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as running:
        try:
            yield running
        finally:
            running.kill()


def waits_for(condition: object, what: str) -> None:
    deadline_s, pause = time.monotonic() + PATIENCE_S, threading.Event()
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline_s, what
        pause.wait(0.1)


def started(folder: Path, running: subprocess.Popen[bytes]) -> dict[str, int]:
    """The processes of the test once all of them are there, by their names."""
    names = ("daemon", "child", "test")

    def there() -> bool:
        assert running.poll() is None
        return all((folder / "pids" / name).exists() for name in names)

    waits_for(there, "the nested test does not start")
    return {name: int((folder / "pids" / name).read_text()) for name in names}


def gone(pids: set[int]) -> None:
    waits_for(lambda: not pids & set(all_processes()), "something outlived the test run")


@pytest.mark.parametrize(
    ("victim", "workers"),
    [("started", ()), ("between", ()), ("test", ()), ("started", ("-n", "1"))],
    ids=["the one that was started", "the one between", "the one with the test", "the one that has workers"],
)
def test_a_killed_run_leaves_no_process(tmp_path: Path, workers: tuple[str, ...], victim: str) -> None:
    with nested(tmp_path, *workers) as running:
        pids = started(tmp_path, running)
        below = descendants(running.pid)
        (between,) = (pid for pid, process in below.items() if process.parent == running.pid)
        assert pids["daemon"] in below, "it has escaped"
        os.kill({"started": running.pid, "between": between, "test": pids["test"]}[victim], signal.SIGKILL)
        assert running.wait(PATIENCE_S) == -signal.SIGKILL
        gone({running.pid, *below, *pids.values()})


def test_a_signal_to_the_process_that_was_started_reaches_the_tests(tmp_path: Path) -> None:
    with nested(tmp_path) as running:
        all_of_it = set(started(tmp_path, running).values())
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == pytest.ExitCode.INTERRUPTED
        gone(all_of_it)


@pytest.mark.parametrize(("body", "status"), [("pass", 0), ("assert False", 1)])
def test_a_run_ends_with_the_status_of_its_tests(tmp_path: Path, body: str, status: int) -> None:
    with nested(tmp_path, test=f"def test_it():\n    {body}\n") as running:
        assert running.wait(PATIENCE_S) == status


def test_this_run_is_in_custody(request: pytest.FixtureRequest) -> None:
    assert request.config.pluginmanager.is_registered(conftest)
    assert conftest.pytest_cmdline_main is custody.pytest_cmdline_main


def test_a_command_ends_with_the_process_that_has_started_it() -> None:
    """Also where that one is only a worker of a run that goes on."""
    sleeper = ending_with_us([sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"])
    code = f"import subprocess, sys; p = subprocess.Popen({sleeper[:5]!r} + [str(__import__('os').getpid())]"
    code += f" + {sleeper[6:]!r}, stdout=-1); p.stdout.readline(); print(p.pid, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        gone({pid})
