"""The start of Ray on one machine: which processes it leaves out, how long it waits, and for what."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from satmeter.actors.ray_start import RayStartError, lean_start

RAYLET = [
    "raylet",
    "--metrics-agent-port=0",
    "--metrics_export_port=0",
    "--runtime_env_agent_port=0",
    "--python_worker_command=python worker.py --metrics-agent-port=0 --runtime-env-agent-port=0 --node-manager-port=0",
    "--dashboard_agent_command=python agent.py --listen-port=0",
    "--runtime_env_agent_command=python main.py --runtime-env-agent-port=0",
]


class Library:
    """Ray's modules: a node that appears in the table after so many looks, and processes that may end."""

    def __init__(self, looks: int = 0, ended: int | None = None) -> None:
        self.launched: list[tuple[list[str], str]] = []
        self.monitors = 0
        self.now_s = 0.0
        self._looks = looks
        self._ended = ended
        library = self

        class Node:
            def start_monitor(self) -> None:
                library.monitors += 1

            def start_log_monitor(self) -> None:
                library.monitors += 1

        self.node = Node
        self.services = SimpleNamespace(
            start_ray_process=self._launch, get_node=self._get_node, start_api_server=lambda: ("http://x", "process")
        )

    def _launch(self, command: list[str], process_type: str, *, fate_share: bool) -> Any:
        assert fate_share
        self.launched.append((command, process_type))
        return SimpleNamespace(process=SimpleNamespace(poll=lambda: self._ended))

    def _get_node(self, _address: str, _node_id: str) -> str:
        self.now_s += 10
        self._looks -= 1
        if self._looks >= 0:
            raise RuntimeError("GCS cannot find the node")
        return "node"

    def started(self, patience_s: float = 300) -> Any:
        return lean_start(self.node, self.services, patience_s, clock=lambda: self.now_s, pause=lambda _s: None)


def test_a_node_starts_without_helpers_and_waits_for_none_of_their_ports() -> None:
    library = Library()
    with library.started():
        library.services.start_ray_process(["gcs", "--port=0"], "gcs_server", fate_share=True)
        library.services.start_ray_process(RAYLET, "raylet", fate_share=True)
        library.node().start_monitor()
        library.node().start_log_monitor()
        assert library.services.start_api_server(True, False, "127.0.0.1", port=1) == ("", None)
    assert library.monitors == 0
    assert library.launched[0] == (["gcs", "--port=0"], "gcs_server")
    command, _ = library.launched[1]
    assert command[:4] == [
        "raylet",
        *(f"--{name}=65535" for name in ("metrics-agent-port", "metrics_export_port", "runtime_env_agent_port")),
    ]
    assert command[4].endswith(
        "worker.py --metrics-agent-port=65535 --runtime-env-agent-port=65535 --node-manager-port=0"
    )
    assert [word.partition("=")[2].partition(" ")[0] for word in command[5:]] == ["sh", "sh", "65535"]
    assert command[7] == "--dashboard_agent_listen_port=65535"


def test_afterwards_ray_is_as_it_was() -> None:
    library = Library()
    before = (vars(library.services).copy(), library.node.start_monitor)
    with library.started():
        pass
    assert (vars(library.services), library.node.start_monitor) == before


def test_it_waits_for_a_node_that_is_slow_for_as_long_as_its_processes_live() -> None:
    library = Library(looks=20)
    with library.started():
        library.services.start_ray_process(RAYLET, "raylet", fate_share=True)
        assert library.services.get_node("127.0.0.1:1", "id") == "node"
    assert library.now_s == 210


def test_a_node_that_does_not_come_up_in_all_that_time_is_given_up() -> None:
    library = Library(looks=1_000)
    with pytest.raises(RayStartError, match="not ready within 300 s"), library.started():
        library.services.get_node("127.0.0.1:1", "id")
    assert 300 < library.now_s <= 320


def test_a_process_that_ended_is_not_waited_for() -> None:
    library = Library(looks=1_000, ended=-9)
    with library.started():
        library.services.start_ray_process(RAYLET, "raylet", fate_share=True)
        with pytest.raises(RayStartError, match="its process raylet ended with status -9"):
            library.services.get_node("127.0.0.1:1", "id")
    assert library.now_s == 10


def test_whatever_ray_raises_becomes_one_line() -> None:
    with pytest.raises(RayStartError, match=r"^ValueError: no room$"), Library().started():
        raise ValueError("no room\nin any of\nthese lines")


def test_ray_still_has_what_is_replaced_in_it() -> None:
    """A version that names it otherwise would start all its helpers, or not start at all."""
    private = Path(str(distribution("ray").locate_file("ray"))) / "_private"
    services, node = (private / "services.py").read_text(), (private / "node.py").read_text()
    for words in (
        "def get_node(gcs_address, node_id):",
        "def start_ray_process(\n    command: List[str],\n    process_type: str,",
        "def start_api_server(",
        '"--dashboard_agent_command={}"',
        '"--runtime_env_agent_command={}"',
        "--metrics-agent-port={",
        "--metrics_export_port={",
        "--runtime_env_agent_port={",
    ):
        assert words in services
    for words in (
        "def start_monitor(self):",
        "def start_log_monitor(self):",
        "self._webui_url, process_info = ray._private.services.start_api_server(",
        "ray._private.services.get_node(",
        "except RuntimeError as e:",
    ):
        assert words in node
