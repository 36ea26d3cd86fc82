"""deploy/node.sh and the start commands of ray-cluster.yaml, with stand-ins for Ray and the server."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from satmeter.config.secret_names import SECRETS
from tests.helpers.patience import PATIENCE_S

DEPLOY = Path(__file__).parents[2] / "deploy"
NODE = DEPLOY / "node.sh"
READY = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0" * 64,
    "RAY_ADDRESS": "head:6379",
    "REDIS_URL": "redis://store:6379/0",
    "MACAROON_ROOT_KEY": "0" * 64,
}
OF_RAYS_STORE = {
    "RAY_REDIS_ADDRESS": "store:6379",
    "RAY_REDIS_USERNAME": "ray",
    "RAY_REDIS_PASSWORD": "hidden",
}
# Notes how it was called, then waits: SIGTERM ends it in order, SIGUSR1 as if by itself.
STAND_IN = """#!/usr/bin/env bash
name=$(basename "$0")
note() { echo "$*" >>"$NODE_LOG"; }
trap 'note "$name told"; kill $!; note "$name ended"; exit 0' TERM
trap 'kill $!; exit 3' USR1
sleep 50 &
note "$name $$ $*"
while :; do wait; done
"""


class Node:
    """One run of node.sh among the stand-ins."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "log"
        self._log.touch()
        for name in ("ray", "satmeter"):
            program = directory / name
            program.write_text(STAND_IN)
            program.chmod(0o755)
        self._path = f"{directory}:{os.environ['PATH']}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            ["bash", NODE, *words],
            env={"PATH": self._path, "NODE_LOG": str(self._log), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        return self._process

    def end(self) -> None:
        for line in self.lines():
            if started := re.match(r"(?:ray|satmeter) (\d+)", line):
                try:
                    os.kill(int(started[1]), signal.SIGUSR1)
                except ProcessLookupError:
                    continue
        if self._process is not None:
            self._process.communicate(timeout=PATIENCE_S)

    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def pid(self, name: str) -> int | None:
        """The process of `ray` or `satmeter`, or of a command of theirs."""
        program, _, command = name.partition(" ")
        found = [line.split()[1] for line in self.lines() if re.match(rf"{program} \d+ {command}", line)]
        return int(found[0]) if found else None

    def environment(self, name: str) -> bytes:
        return Path(f"/proc/{self.pid(name)}/environ").read_bytes()

    def call(self, name: str) -> list[str]:
        (line,) = [line for line in self.lines() if re.match(rf"\w+ {self.pid(name)} ", line)]
        return line.split()[2:]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.end()


async def _run(node: Node, *names: str) -> None:
    while not all(node.pid(name) for name in names):
        await asyncio.sleep(0)


@pytest.mark.parametrize("missing", READY)
def test_a_server_refuses_to_start_without_what_makes_it_safe(node: Node, missing: str) -> None:
    process = node.start("server", **{name: value for name, value in READY.items() if name != missing})
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert missing in errors
    assert node.lines() == []


@pytest.mark.parametrize("environment", [{}, {"RAY_AUTH_MODE": "token"}, {"RAY_AUTH_TOKEN": "0" * 64}])
def test_a_head_refuses_to_start_without_a_token(node: Node, environment: dict[str, str]) -> None:
    process = node.start("head", **environment)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert node.lines() == []


@pytest.mark.parametrize("words", [(), ("worker",)])
def test_it_asks_which_node_this_is(node: Node, words: tuple[str, ...]) -> None:
    process = node.start(*words, **READY)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "head, server or both" in errors


async def test_a_server_joins_ray_and_drains_before_ray_ends(node: Node) -> None:
    process = node.start("server", "--num-cpus", "2", **READY)
    await _run(node, "ray", "satmeter")
    assert node.call("satmeter") == ["serve", "--ray-address", "head:6379"]
    call = node.call("ray")
    assert call[:2] == ["start", "--block"]
    assert call[-4:] == ["--address", "head:6379", "--num-cpus", "2"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert node.lines()[-4:] == ["satmeter told", "satmeter ended", "ray told", "ray ended"]


async def test_a_head_that_serves_is_a_head_and_drains_before_ray_ends(node: Node) -> None:
    process = node.start("both", **READY, **OF_RAYS_STORE)
    await _run(node, "satmeter ray-head", "satmeter serve")
    assert node.call("satmeter serve") == ["serve", "--ray-address", "head:6379"]
    assert "--address" not in node.call("satmeter ray-head")
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert node.lines()[-4:] == ["satmeter told", "satmeter ended"] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="only there an environment can be read")
async def test_ray_starts_without_the_servers_keys(node: Node) -> None:
    keys = {name: f"secret-{name}" for name in SECRETS}
    node.start("server", **{**READY, **keys})
    await _run(node, "ray", "satmeter")
    ray, server = node.environment("ray"), node.environment("satmeter")
    assert [name for name, value in keys.items() if value.encode() in ray or f"{name}=".encode() in ray] == []
    assert all(f"{name}={value}".encode() in server for name, value in keys.items())
    assert b"RAY_AUTH_TOKEN=" in ray


async def test_when_ray_ends_by_itself_the_server_is_told_and_the_node_fails(node: Node) -> None:
    process = node.start("server", **READY)
    await _run(node, "ray", "satmeter")
    os.kill(node.pid("ray") or 0, signal.SIGUSR1)
    assert process.wait(PATIENCE_S) == 1
    assert node.lines()[-2:] == ["satmeter told", "satmeter ended"]


async def test_when_the_server_ends_by_itself_ray_is_told_and_the_node_fails(node: Node) -> None:
    process = node.start("server", **READY)
    await _run(node, "ray", "satmeter")
    os.kill(node.pid("satmeter") or 0, signal.SIGUSR1)
    assert process.wait(PATIENCE_S) == 3
    assert node.lines()[-2:] == ["ray told", "ray ended"]


async def test_a_head_is_ray_alone_and_gets_the_signal_itself(node: Node) -> None:
    process = node.start("head", "--num-cpus", "0", **READY, **OF_RAYS_STORE)
    await _run(node, "satmeter ray-head")
    assert node.pid("satmeter ray-head") == process.pid
    call = node.call("satmeter ray-head")
    assert "--include-dashboard=false" in call and call[-2:] == ["--num-cpus", "0"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert node.pid("satmeter serve") is None


@pytest.mark.skipif(sys.platform != "linux", reason="only there an environment can be read")
async def test_the_password_of_ray_s_store_is_with_ray_s_head_alone_and_on_no_command_line(node: Node) -> None:
    node.start("both", **READY, **OF_RAYS_STORE, VALKEY_PASSWORD="of-all")
    await _run(node, "satmeter ray-head", "satmeter serve")
    head, server = node.environment("satmeter ray-head"), node.environment("satmeter serve")
    assert b"RAY_REDIS_USERNAME=ray" in head and b"RAY_REDIS_PASSWORD=hidden" in head
    assert b"hidden" not in server and b"of-all" not in head + server
    assert "hidden" not in "".join(node.lines())


@pytest.mark.skipif(sys.platform != "linux", reason="only there an environment can be read")
async def test_a_server_alone_has_no_password_of_ray_s_store(node: Node) -> None:
    node.start("server", **READY, **OF_RAYS_STORE, VALKEY_PASSWORD="of-all")
    await _run(node, "ray", "satmeter")
    both = node.environment("ray") + node.environment("satmeter")
    assert b"hidden" not in both and b"of-all" not in both


def test_ray_does_not_get_the_password_that_opens_all_of_the_store(node: Node) -> None:
    process = node.start("head", **READY, RAY_REDIS_ADDRESS="store:6379", VALKEY_PASSWORD="of-all")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "RAY_REDIS_PASSWORD" in errors and "of-all" not in errors
    assert node.lines() == []


async def test_kuberay_s_own_command_is_run_where_there_is_one_with_its_variables_filled_in(node: Node) -> None:
    node.start("server", **READY, KUBERAY_GEN_RAY_START_CMD="ray start --block --labels=$LABELS", LABELS="a=b")
    await _run(node, "ray", "satmeter")
    assert node.call("ray") == ["start", "--block", "--labels=a=b"]


@pytest.mark.skipif(sys.platform != "linux", reason="only there an environment can be read")
async def test_kuberay_s_head_has_its_password_on_no_command_line(node: Node) -> None:
    command = (
        "ray start --head  --block  --num-cpus=0  --redis-password=$REDIS_PASSWORD  --redis-username=$REDIS_USERNAME "
    )
    given = {"REDIS_USERNAME": "ray", "REDIS_PASSWORD": "hidden", "RAY_REDIS_ADDRESS": "store:6379"}
    node.start("head", **READY, KUBERAY_GEN_RAY_START_CMD=command, **given)
    await _run(node, "satmeter ray-head")
    assert node.call("satmeter ray-head") == ["ray-head", "--block", "--num-cpus=0"]
    head = node.environment("satmeter ray-head")
    assert b"RAY_REDIS_USERNAME=ray" in head and b"RAY_REDIS_PASSWORD=hidden" in head and b"\0REDIS_P" not in head
    assert "hidden" not in "".join(node.lines())


def test_a_head_of_kuberay_that_is_started_otherwise_is_refused(node: Node) -> None:
    command = "nice ray start --head --redis-password=$REDIS_PASSWORD"
    process = node.start("head", **READY, KUBERAY_GEN_RAY_START_CMD=command, REDIS_PASSWORD="hidden")
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert node.lines() == []


def _start_command(name: str) -> str:
    (command,) = [
        c
        for c in yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())[name]
        if "autoscaling" in c or "ray start" in c
    ]
    return str(command)


@pytest.mark.parametrize("name", ["head_start_ray_commands", "worker_start_ray_commands"])
@pytest.mark.parametrize(
    ("lines", "starts"),
    [("RAY_AUTH_MODE=token\nRAY_AUTH_TOKEN=abc\n", True), ("RAY_AUTH_MODE=token\n", False), ("OTHER=1\n", False)],
)
def test_the_launcher_starts_ray_with_the_token_or_not_at_all(
    name: str, lines: str, starts: bool, tmp_path: Path
) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/satmeter.env").write_text(
        f"BTC_PRICE_URL=http://x/?a=1&b=2\nRAY_REDIS_PASSWORD=hidden\n{lines}"
    )
    for program in ("ray", "satmeter"):
        stand_in = tmp_path / ".venv/bin" / program
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text('#!/bin/sh\necho "$RAY_AUTH_MODE $RAY_AUTH_TOKEN $RAY_REDIS_PASSWORD"\n')
        stand_in.chmod(0o755)
    # As Ray's launcher calls it; a limit that may not be raised here is none of this test's business.
    command = _start_command(name).replace("/opt/satmeter", str(tmp_path)).replace("ulimit -n 65536", "true")
    environment: dict[str, Any] = {"PATH": os.environ["PATH"], "RAY_HEAD_IP": "10.0.0.1", "HOME": str(tmp_path)}
    run = subprocess.run(
        ["bash", "-c", f"true && ({command})"], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.returncode == 0) is starts
    # The password of Ray's store is the head's alone.
    password = "hidden" if name.startswith("head") else ""
    assert run.stdout == (f"token abc {password}\n" if starts else "")
