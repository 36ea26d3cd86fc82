"""Ray's own head with its state in a store, as the user of deploy/ray-store-user.acl, and who sees its password."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.format import enter_format
from satmeter.scripts.processes import descendants
from tests.helpers.cluster.commands import satmeter
from tests.helpers.cluster.nodes import ENVIRONMENT
from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S, PROGRAM_S
from tests.helpers.quick_disk import quick_disk
from tests.helpers.secure_stores import PASSWORD, SecureStore, grant, store_with_rights
from tests.helpers.served import free_port, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there processes can be looked into")

# An actor, so that Ray uses all of its tables, and a word that only Ray keeps.
_KEEPS = """
import ray, sys
from ray.experimental.internal_kv import _internal_kv_put
ray.init(address=sys.argv[1], _node_ip_address="127.0.0.1", log_to_driver=False, configure_logging=False)
@ray.remote(num_cpus=0)
class Kept:
    def answer(self):
        return 42
kept = Kept.options(name="kept", lifetime="detached").remote()
assert ray.get(kept.answer.remote()) == 42
_internal_kv_put("word", "kept")
"""
_FINDS = """
import ray, sys
from ray.experimental.internal_kv import _internal_kv_get
ray.init(address=sys.argv[1], _node_ip_address="127.0.0.1", log_to_driver=False, configure_logging=False)
assert _internal_kv_get("word") == b"kept"
"""


class Head:
    """`satmeter ray-head` over a store."""

    def __init__(self, folder: Path, store: SecureStore) -> None:
        self.port = free_port()
        self.environment = {
            **ENVIRONMENT,
            "SATMETER_ENV": "production",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0" * 64,
            "RAY_REDIS_ADDRESS": f"127.0.0.1:{store.port}",
            "RAY_REDIS_USERNAME": "ray",
            "RAY_REDIS_PASSWORD": PASSWORD,
            "RAY_external_storage_namespace": "satmeter",
        }
        self.words = (
            "ray-head", "--block", "--port", str(self.port), "--node-ip-address", "127.0.0.1", "--num-cpus", "1",
            "--temp-dir", str(folder / "r"), "--include-dashboard=false", "--object-store-memory", "83886080",
        )  # fmt: skip
        self._folder = folder

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Runs it until its node is there; it ends with all that it started."""
        log = self._folder / "log"
        command = [str(Path(sys.executable).with_name("satmeter")), *self.words]
        with log.open("wb") as output:
            environment = {**os.environ, **self.environment}
            process = subprocess.Popen(ending_with_us(command), env=environment, stdout=output, stderr=output)
        family: dict[int, object] = {}
        try:

            def started() -> bool:
                assert process.poll() is None, log.read_text()
                return "Ray runtime started" in log.read_text()

            wait_until(started, PATIENCE_S, "Ray's head")
            family.update(descendants(process.pid))
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
            for pid in family:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def drive(self, program: str) -> None:
        """Runs a program that joins it."""
        clean = {name: value for name, value in self.environment.items() if "REDIS" not in name}
        command = [sys.executable, "-c", program, f"127.0.0.1:{self.port}"]
        subprocess.run(command, env={**os.environ, **clean}, check=True, timeout=PROGRAM_S)


@contextmanager
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as folder:
        yield Path(folder)


def _looked_into(head: subprocess.Popen[bytes]) -> tuple[set[str], set[str]]:
    """Return the programs that have the password on their command line, and those that have it in their environment."""
    family = {head.pid: "ray-head", **{pid: process.command for pid, process in descendants(head.pid).items()}}
    assert any("gcs_server" in command for command in family.values())
    assert any("raylet" in command for command in family.values())
    told = {command for command in family.values() if PASSWORD in command}
    inherited = set()
    for pid, command in family.items():
        try:
            if PASSWORD.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                inherited.add(Path(command.split()[0]).name)
        except OSError:
            continue  # It has just ended.
    return told, inherited


def test_ray_needs_no_other_rights_and_its_password_is_on_no_command_line_and_it_outlives_its_head() -> None:
    async def run() -> None:
        async with store_with_rights() as store:
            await grant(store.admin, "ray")
            client = connect(store.url)
            await enter_format(client)
            await client.aclose()
            with short_folder() as folder:
                head = Head(folder, store)
                with head.running() as process:
                    await asyncio.to_thread(head.drive, _KEEPS)
                    told, inherited = _looked_into(process)
                    assert told == set()
                    assert inherited == {"ray-head", "gcs_server"}
                    (gcs,) = [p for p, found in descendants(process.pid).items() if "/gcs_server " in found.command]
                    os.kill(gcs, signal.SIGKILL)
                    await asyncio.to_thread(process.wait, PATIENCE_S)
                with head.running():
                    await asyncio.to_thread(head.drive, _FINDS)
                assert not [file for file in folder.rglob("*") if file.is_file() and PASSWORD in _text(file)]
            keys = [key async for key in store.admin.scan_iter()]
            assert [key for key in keys if not key.startswith((b"RAYsatmeter@", b"satmeter:"))] == []
            assert any(key.startswith(b"RAYsatmeter@") for key in keys)
            # What the check before the start tries, and nothing else.
            refused = {entry["object"] for entry in await store.admin.acl_log()}
            assert refused == {"exists", "get", "satmeter:format", "scan", "config|get"}

    asyncio.run(run())


def _text(file: Path) -> str:
    return file.read_bytes().decode(errors="replace")


def test_production_does_not_start_ray_s_head_as_a_user_who_reaches_the_books() -> None:
    async def run() -> None:
        async with store_with_rights() as store:
            client = connect(store.url)
            await enter_format(client)
            await client.aclose()
            with short_folder() as folder:
                head = Head(folder, store)
                given = {**head.environment, "RAY_REDIS_USERNAME": "satmeter"}
                done = await asyncio.to_thread(satmeter, *head.words, **given)
                assert done.returncode == 1
                assert "ray-store-user.acl" in done.stderr and PASSWORD not in done.stderr
                assert not (folder / "r").exists()

    asyncio.run(run())
