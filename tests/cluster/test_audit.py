"""The audit of real servers, and the data directory that is all there is to take along."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path

from satmeter.scripts.store.embedded import EmbeddedStore
from tests.helpers.cluster.commands import audited, satmeter
from tests.helpers.cluster.jobs import create, finish, pay, wait_for
from tests.helpers.cluster.sessions import session
from tests.helpers.served import patiently, served


def test_a_data_directory_is_moved_with_all_that_was_paid(data_dir: Path) -> None:
    """From a server that was killed, and then from one that was stopped."""
    with served(data_dir, SATMETER_HOSTS="1") as server, session(server) as client:
        client.ask()
        made = create(server)
        pay(server, made["evalInvoice"])
        wait_for(server, made["jobId"], "awaiting_work_payment")
        done = create(server)
        pay(server, done["evalInvoice"])
        finish(server, done["jobId"])
        before, shown = audited(data_dir), client.settled()
        assert before["sessions"]["actors"] == 1 and before["jobs"]["actors"] == 2
        credential = client.http.headers["Authorization"]
        server.stop(signal.SIGKILL)
        # Of Ray two processes may stay for a minute after SIGKILL; they hold nothing of ours.
        patiently(lambda: not any("valkey" in command for command in server.left_over()), "the store still runs")
    moved = move(data_dir, "moved")
    assert audited(moved) == before
    with served(moved, SATMETER_HOSTS="1") as server:
        answer = server.client.get(client.path, headers={"Authorization": credential})
        assert answer.json() == shown
        finish(server, made["jobId"])
        after = audited(moved)
        assert after["jobs"]["received"] > before["jobs"]["received"]
        server.stop()
        assert server.left_over() == []
    assert audited(move(moved, "again")) == after


def move(data_dir: Path, name: str) -> Path:
    """The directory at its new place; the old one is gone."""
    there = data_dir.parent / name
    shutil.copytree(data_dir, there, ignore=shutil.ignore_patterns("*.sock"))
    shutil.rmtree(data_dir)
    return there


async def make_store(data_dir: Path) -> None:
    store = EmbeddedStore(data_dir)
    await store.start()
    await store.stop()


def test_a_store_of_a_newer_version_is_neither_served_nor_audited_nor_changed(data_dir: Path) -> None:
    asyncio.run(make_store(data_dir))
    store = next((data_dir / "store").rglob("*.incr.aof"))
    entry = b"*3\r\n$3\r\nSET\r\n$15\r\nsatmeter:format\r\n$2\r\n99\r\n"
    with store.open("ab") as file:
        file.write(entry)
    size = store.stat().st_size
    for command in ("serve", "audit"):
        done = satmeter(command, "--data-dir", str(data_dir), *(("--port", "0") if command == "serve" else ()))
        assert done.returncode != 0
        assert "written by a newer version of Satmeter (format 99, this one reads up to" in done.stderr
        assert "Nothing was changed." in done.stderr
    assert next((data_dir / "store").rglob("*.incr.aof")).stat().st_size == size
