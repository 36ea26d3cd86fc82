"""The port and the processes that hold it, when a server dies or another one is there."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from satmeter.config.root_key import Keys
from satmeter.config.settings import Settings
from satmeter.scripts.processes import all_processes, descendants
from satmeter.scripts.server.front import Orders
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served, free_port, patiently

KEYS = Keys(b"", b"", b"", b"", b"", b"", "")


def test_a_front_whose_supervisor_dies_while_it_joins_the_cluster_ends_at_once() -> None:
    """Such a front would hold the port for minutes, and accept nothing."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        orders = Orders(Settings(), KEYS, None, f"127.0.0.1:{free_port()}", "nowhere", "127.0.0.1", port.fileno(), None)
        with subprocess.Popen(
            [sys.executable, "-m", "satmeter.scripts.server.front"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[port.fileno()],
        ) as front:
            assert front.stdin is not None
            front.stdin.write(pickle.dumps(orders))
            front.stdin.close()
            try:
                assert front.wait(PATIENCE_S) == 1
            finally:
                front.kill()


SUPERVISOR = """
import asyncio, pickle, sys
from satmeter.scripts.server.front_process import FrontProcess
asyncio.run(FrontProcess(pickle.load(sys.stdin.buffer)).keep_running())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel can be told")
def test_not_even_a_front_that_is_held_up_outlives_its_supervisor_while_it_joins() -> None:
    """Ray holds the interpreter while it connects, so that no thread of the front's notices anything."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        orders = Orders(Settings(), KEYS, None, f"127.0.0.1:{free_port()}", "nowhere", "127.0.0.1", port.fileno(), None)
        with subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[port.fileno()],
        ) as supervisor:
            assert supervisor.stdin is not None and supervisor.stderr is not None
            supervisor.stdin.write(pickle.dumps(orders))
            supervisor.stdin.close()
            # What Ray says of a cluster that is not there.
            assert b"Failed to connect" in supervisor.stderr.readline()
            (front,) = descendants(supervisor.pid)
            os.kill(front, signal.SIGSTOP)
            supervisor.kill()
            supervisor.wait()
            try:
                patiently(lambda: front not in all_processes(), "the front outlived its supervisor")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(front, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="only there do fronts share the port")
def test_fronts_share_the_port_with_no_other_server(data_dir: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = Served(data_dir, {"SATMETER_WORKERS": "2"}, other.getsockname()[1])
        try:
            assert server.process.wait(PATIENCE_S) == 1
            assert "--port" in server.log()
        finally:
            server.close()
