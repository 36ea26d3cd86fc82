"""The port and the processes that hold it, when a server dies or another one is there."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from satmeter.config.settings import Settings
from satmeter.scripts.front import Orders
from tests.served import Served, free_port

pytestmark = pytest.mark.timeout(120)


def test_a_front_whose_supervisor_dies_while_it_joins_the_cluster_ends_at_once() -> None:
    """It would hold the port for minutes, and accept nothing."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        orders = Orders(Settings(), f"127.0.0.1:{free_port()}", "nowhere", "127.0.0.1", port.fileno(), None)
        with subprocess.Popen(
            [sys.executable, "-m", "satmeter.scripts.front"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[port.fileno()],
        ) as front:
            assert front.stdin is not None
            front.stdin.write(pickle.dumps(orders))
            front.stdin.close()
            try:
                assert front.wait(30) == 1
            finally:
                front.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="only there do fronts share the port")
def test_fronts_share_the_port_with_no_other_server(data_dir: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        server = Served(data_dir, {"SATMETER_WORKERS": "2"}, other.getsockname()[1])
        try:
            assert server.process.wait(30) == 1
            assert "--port" in server.log()
        finally:
            server.close()
