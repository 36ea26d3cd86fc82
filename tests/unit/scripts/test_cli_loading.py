"""Modules that a command loads before it runs: `--help` must not wait for what only a server needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

# The whole of typer is 60 ms of CPU; each of these would add as much again, or many times as much.
HEAVY = {
    "anthropic", "asyncio", "httpx", "msgspec", "pydantic", "ray", "redis", "rich", "starlette", "structlog", "uvicorn",
    "satmeter.config.settings",
}  # fmt: skip
LISTING = """
import sys
from satmeter.scripts.cli import main
sys.argv = ["satmeter", *sys.argv[1:]]
try:
    main()
finally:
    print("loaded:", *sys.modules)
"""
# Loads slowly, to be interrupted in the middle: `signal` is imported by the time that `typer` is.
INTERRUPTED = """
import importlib.abc, os, signal, sys

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from satmeter.scripts.cli import main
main()
"""


@pytest.mark.parametrize(
    "words",
    [(), ("--help",), ("serve", "--help"), ("ask", "--help"), ("simulate", "--help"), ("macaroon", "--help")],
    ids=" ".join,
)
def test_help_loads_nothing_that_only_a_command_needs(words: tuple[str, ...]) -> None:
    run = subprocess.run([sys.executable, "-c", LISTING, *words], capture_output=True, text=True, check=False)
    shown, _, loaded = run.stdout.rpartition("loaded: ")
    assert "Usage: satmeter" in shown + run.stderr
    assert sorted(HEAVY & set(loaded.split())) == []


def test_ctrl_c_while_it_loads_ends_it_without_a_traceback() -> None:
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        check=False,
        # Tests run in the background have Ctrl-C ignored, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_that_was_kept_back_until_it_could_be_handled_ends_it() -> None:
    def keep_back() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.kill(os.getpid(), signal.SIGINT)

    code = "from satmeter.scripts.cli import main; main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, preexec_fn=keep_back)
    assert (run.returncode, run.stderr) == (-signal.SIGINT, b"")
