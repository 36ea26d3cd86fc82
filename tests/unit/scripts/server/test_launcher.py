"""The first process of `satmeter serve`: whatever the server does, it ends, in words and without leftovers."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from satmeter.scripts.processes import all_processes
from tests.helpers.served import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there all that is left over can be found")

LAUNCHER = """
import ctypes, sys
from satmeter.scripts.server.launcher import Launch, raise_file_limit
ctypes.CDLL(None).prctl(36, 1)
raise_file_limit()
sys.exit(Launch([sys.executable, "-c", sys.argv[1]], ends_within_s={ends}, unserving_ends_within_s={unserving}).run())
"""
# What every made-up server begins with: it notes that it was started, and can report as the real one does.
SERVER = """
import json, os, pathlib, signal, subprocess, sys, time
here = pathlib.Path({here!r})
lifeline, reports, secrets = map(int, os.environ["SATMETER_LAUNCHED_BY"].split(","))
def report(**what): os.write(reports, json.dumps(what).encode() + b"\\n")
def note(name): (here / name).write_text(str(os.getpid()))
tries = len(list(here.glob("try-*")))
note(f"try-{{tries}}")
"""
HANGS = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nnote('up')\nwhile True: time.sleep(60)"
DRAINS = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nreport(serving=True)\nnote('up')\nsignal.pause()"
# A process that has left its family, as daemons do.
LEAVES_ONE = """
subprocess.Popen(["sh", "-c", "sleep 1000 & echo $! > {here}/lost"], start_new_session=True).wait()
"""
STOPPED = "Stopping … (again to force)\nStopped after N s.\n"


@contextmanager
def launched(
    tmp_path: Path, server: str, ends_s: float = 60, unserving_s: float = 60
) -> Iterator[subprocess.Popen[str]]:
    code = textwrap.dedent(SERVER.format(here=str(tmp_path))) + server.replace("{here}", str(tmp_path))
    launcher = LAUNCHER.format(ends=ends_s, unserving=unserving_s)
    command = [sys.executable, "-c", launcher, code]
    # Under `nohup` the tests ignore this signal, and so would the launcher.
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGHUP, hangup)
    with process:
        try:
            yield process
        finally:
            process.kill()


def up(tmp_path: Path) -> None:
    wait_until(lambda: (tmp_path / "up").exists() and (tmp_path / "up").read_text(), 30, "the server did not come up")


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=40)
    return process.returncode, "".join(words(line) for line in said.splitlines())


def words(line: str) -> str:
    """The words of an entry. Standard error goes to a pipe here."""
    return re.sub(r"[0-9.]+ s", "N s", f"{json.loads(line)['hint']}\n")


def test_the_first_signal_is_passed_on_at_once_and_the_server_s_status_returned(tmp_path: Path) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with launched(tmp_path, DRAINS) as process:
            up(tmp_path)
            process.send_signal(signum)
            assert ended(process) == (0, STOPPED)
        (tmp_path / "up").unlink()


def test_the_second_signal_ends_it_by_force_with_the_status_of_the_first(tmp_path: Path) -> None:
    with launched(tmp_path, LEAVES_ONE + HANGS) as process:
        up(tmp_path)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert words(process.stderr.readline()) == "Stopping … (again to force)\n"
        # What comes at once is the same Ctrl-C, by another way.
        process.send_signal(signal.SIGINT)

        def insists() -> bool:
            process.send_signal(signal.SIGINT)
            return process.poll() is not None

        wait_until(insists, 20, "it did not end")
        assert ended(process) == (130, "Ending it by force. What was under way goes on at the next start.\n")
    living = all_processes()
    assert int((tmp_path / "lost").read_text()) not in living and int((tmp_path / "up").read_text()) not in living


@pytest.mark.parametrize("serving", [True, False])
def test_a_server_that_does_not_end_is_ended_by_force(tmp_path: Path, serving: bool) -> None:
    server = ("report(serving=True)\n" if serving else "") + HANGS
    ends_s, unserving_s = (0.3, 60) if serving else (60, 0.3)
    with launched(tmp_path, server, ends_s, unserving_s) as process:
        up(tmp_path)
        process.send_signal(signal.SIGTERM)
        status, said = ended(process)
    assert status == 143 and said.splitlines()[1].startswith("It has not ended by itself. Ending it by force.")


def test_what_the_server_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    with launched(tmp_path, LEAVES_ONE + "sys.exit(1)") as process:
        assert ended(process) == (1, "")
    assert int((tmp_path / "lost").read_text()) not in all_processes()


def test_a_start_that_may_succeed_at_another_try_is_tried_again(tmp_path: Path) -> None:
    with launched(tmp_path, "if tries < 2: sys.exit(75)\n" + DRAINS) as process:
        up(tmp_path)
        process.send_signal(signal.SIGTERM)
        status, said = ended(process)
    assert status == 0
    assert said.splitlines() == [
        "Trying again, 2 of 5 ...", "Trying again, 3 of 5 ...", *STOPPED.splitlines()
    ]  # fmt: skip


def test_a_start_that_keeps_failing_is_given_up(tmp_path: Path) -> None:
    with launched(tmp_path, "sys.exit(75)") as process:
        status, said = ended(process)
    assert status == 1 and len(list(tmp_path.glob("try-*"))) == 5 and said.splitlines()[-1].startswith("Giving up")


def test_a_start_that_is_cut_off_is_said_and_tried_again_but_not_a_server_that_serves(tmp_path: Path) -> None:
    cut_off = "if tries == 0: os.kill(os.getpid(), signal.SIGKILL)\nreport(serving=True)\nos.abort()"
    with launched(tmp_path, cut_off) as process:
        status, said = ended(process)
    assert status == 1
    assert said.splitlines() == [
        "The server's main process was ended by SIGKILL: is there enough memory?",
        "Trying again, 2 of 5 ...",
        "The server's main process was ended by SIGABRT",
    ]


def test_a_server_that_has_ended_all_but_its_own_process_is_waited_for_no_longer(tmp_path: Path) -> None:
    with launched(tmp_path, "report(serving=True)\nreport(status=3)\n" + HANGS) as process:
        assert ended(process) == (3, "")


def test_the_server_dies_with_its_launcher(tmp_path: Path) -> None:
    server = "from satmeter.scripts.server.lifeline import Launcher\nLauncher.of_environment()\n" + HANGS
    with launched(tmp_path, server) as process:
        up(tmp_path)
        process.kill()
    pid = int((tmp_path / "up").read_text())
    wait_until(lambda: pid not in all_processes(), 10, "the server outlived its launcher")


LISTENS = """
import threading
from satmeter.scripts.server.lifeline import Launcher
signal.signal(signal.SIGTERM, signal.SIG_IGN)
told = threading.Event()
launcher = Launcher.of_environment()
launcher.when_told(told.set)
launcher.tell(serving=True)
note("up")
told.wait()
launcher.tell(status=0)
while True: time.sleep(60)
"""


def test_a_server_whose_signals_are_caught_by_a_library_is_told_by_the_pipe(tmp_path: Path) -> None:
    with launched(tmp_path, LISTENS) as process:
        up(tmp_path)
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, STOPPED)


def test_as_many_files_may_be_open_as_the_system_allows(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = "import resource\n(here / 'limit').write_text(str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))"
    code = textwrap.dedent(SERVER.format(here=str(tmp_path))) + server
    subprocess.run(
        [sys.executable, "-c", LAUNCHER.format(ends=60, unserving=60), code],
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)),
    )
    assert int((tmp_path / "limit").read_text()) == min(hard, 65_536)


def test_ctrl_c_that_is_ignored_by_nohup_s_like_is_still_heard_and_a_hangup_is_not(tmp_path: Path) -> None:
    ours = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with launched(tmp_path, DRAINS) as process:
            up(tmp_path)
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGTERM)
            assert ended(process) == (0, STOPPED)
    finally:
        signal.signal(signal.SIGHUP, ours)
    assert os.getpid() in all_processes()
