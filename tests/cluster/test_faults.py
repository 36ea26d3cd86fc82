"""Real faults on real processes of one server under load: it is back by itself, and its books are exact.

Meanwhile each client gets an answer, or a 503 that says when to come again; the load sees to that.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.cluster.commands import audited
from tests.helpers.cluster.disks import beside, can_mount, fill, make_room, on_small_disk
from tests.helpers.cluster.jobs import create, finish, pay_until_taken
from tests.helpers.cluster.load import Load, load
from tests.helpers.cluster.owners import knows_of_its_loss, owners
from tests.helpers.served import Served, patiently, served

_PAUSE_S = 10.0
_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def on_disk() -> Iterator[Served]:
    """One server for all tests of the module, on a disk of its own if that is possible here."""
    with tempfile.TemporaryDirectory(prefix="sm-") as directory:
        data_dir = Path(directory) / "data"
        data_dir.mkdir()
        within = on_small_disk(data_dir) if can_mount(data_dir) else ()
        # The model takes its time, so that whatever dies does so with requests at it.
        with served(
            data_dir,
            within=within,
            SATMETER_HOSTS="2",
            SATMETER_WORKERS="2",
            SATMETER_STUB_MODEL_LATENCY_S="0.2",
        ) as server:
            yield server


def comes_back(running: Load, fault: str) -> None:
    """Each client is answered again; the time that takes is logged, not asserted: other machines are slower."""
    back_s = running.back()
    _log.info(
        "%s: back after %.1f s, %d refused, slowest attempt %.1f s",
        fault, back_s, running.refused, running.slowest_attempt_s,
    )  # fmt: skip


@pytest.mark.parametrize(
    "process", ["ray::HostActor", "ray::TreasuryActor", "ray::OracleActor", "satmeter.scripts.server.front", "valkey"]
)
def test_every_process_may_be_killed_under_load(on_disk: Served, process: str) -> None:
    created = create(on_disk)
    with load({0: on_disk}) as running:
        killed = on_disk.kill(process)
        pay_until_taken(on_disk, created["evalInvoice"])
        comes_back(running, process)
        patiently(lambda: on_disk.descendants(process), "it was not started again")
        assert not set(on_disk.descendants(process)) & set(killed)
    assert finish(on_disk, created["jobId"])["result"]
    on_disk.wait_until_ready()


def test_a_host_that_wakes_after_its_partitions_have_moved_writes_and_tells_nothing(on_disk: Served) -> None:
    """The host stands still in the middle of its work, and would go on with it when it wakes."""
    patiently(lambda: len(owners(on_disk)) == 2, "the hosts don't share the partitions")
    with load({0: on_disk}, 8) as running:
        victim = on_disk.descendants("ray::HostActor")[0]
        with on_disk.paused(victim):
            comes_back(running, "host paused")
            assert len(owners(on_disk)) == 1
            since = len(on_disk.log())
        patiently(lambda: knows_of_its_loss(on_disk.log()[since:]), "it goes on as if nothing had happened")
        _log.info("host woke: %s", "fenced" if "fenced" in on_disk.log()[since:] else "looked first")
        patiently(lambda: len(owners(on_disk)) == 2, "it does not get its share back")
        running.back()


def test_a_store_that_stands_still_is_waited_for_with_503_and_nothing_is_lost(on_disk: Served) -> None:
    (store,) = on_disk.descendants("valkey")
    with load({0: on_disk}) as running:
        with on_disk.paused(store):
            stopped_s = time.monotonic()
            running.are_told()
            _log.info("store paused: all told after %.1f s", time.monotonic() - stopped_s)
            answer = on_disk.client.get("/readyz")
            assert answer.status_code == 503 and "store" in answer.json()["unreachable"]
            assert int(answer.headers["Retry-After"]) > 0
            patiently(lambda: time.monotonic() > stopped_s + _PAUSE_S, "time stands still")
        comes_back(running, "store paused")
    on_disk.wait_until_ready()
    assert on_disk.descendants("valkey") == [store]


def test_a_full_disk_is_told_and_nothing_is_acknowledged_until_there_is_room(on_disk: Served) -> None:
    if not can_mount(on_disk.data_dir):
        pytest.skip("a disk that can be filled needs the right to mount one")
    with load({0: on_disk}) as running:
        fill(on_disk)
        try:
            patiently(lambda: "the disk that it writes to is full" in readiness(on_disk), "it is not told")
            patiently(lambda: "disk_full" in on_disk.log(), "the operator is not told")
            answered = running.answered
            running.are_told(8)
            assert running.answered == answered
            assert on_disk.descendants("valkey") == []
        finally:
            make_room(on_disk)
        comes_back(running, "disk full")
    on_disk.wait_until_ready()


def readiness(server: Served) -> str:
    answer = server.client.get("/readyz")
    return str(answer.json()["error"]) if answer.status_code == 503 else ""


def test_the_audit_closes_after_all_of_that(on_disk: Served) -> None:
    figures = audited(on_disk.data_dir, beside(on_disk) if can_mount(on_disk.data_dir) else ())
    assert figures["sessions"]["received"] + figures["jobs"]["received"] == figures["node"]["received"]
    on_disk.stop()
