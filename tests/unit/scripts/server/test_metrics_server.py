"""Totals by the socket: processes hand over their counts, and a front asks for the sums."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from satmeter.actors.cancellation import cancel_and_wait
from satmeter.actors.metrics.link import NoTotalsError, ask_totals, hand_over, socket_in
from satmeter.config import private_dir
from satmeter.config.private_dir import make_private_dir
from satmeter.scripts.server.metrics_server import MetricsServer
from tests.helpers.hosts import until

NODE, OTHER_NODE = "ab" * 28, "cd" * 28


@pytest.fixture(autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(private_dir, "ROOT", str(root))
    return root


@pytest.fixture
async def server() -> AsyncIterator[MetricsServer]:
    server = MetricsServer()
    await server.open(make_private_dir(), NODE)
    yield server
    await server.close()


class Process:
    """A process with a counter and a gauge."""

    def __init__(self, role: str) -> None:
        registry = CollectorRegistry()
        self.calls = Counter("calls", "Calls.", registry=registry)
        self.waiting = Gauge("waiting", "Waiting.", registry=registry)
        self.task = asyncio.create_task(hand_over(registry, role, NODE))

    async def die(self) -> None:
        await cancel_and_wait([self.task])


async def value(name: str, *labels: str) -> float | None:
    """Return a sample of the totals."""
    for family in await ask_totals(NODE):
        for sample in family.samples:
            if sample.name == name and labels == tuple(value for _, value in sample.labels):
                return sample.value
    return None


async def connected(role: str, count: int = 1) -> None:
    async def seen() -> bool:
        return await value("satmeter_processes", role) == count

    await until(seen)


async def test_the_counts_of_all_processes_are_added_up_at_the_time_of_the_question(server: MetricsServer) -> None:
    front, host = Process("front"), Process("host")
    await connected("front")
    await connected("host")
    front.calls.inc(2)
    host.calls.inc(3)
    host.waiting.set(4)
    assert (await value("calls_total"), await value("waiting")) == (5, 4)
    host.calls.inc()
    assert await value("calls_total") == 6
    assert await value("satmeter_processes", "main") == 1
    assert (await value("process_resident_memory_bytes", "main") or 0) > 0
    await asyncio.gather(front.die(), host.die())


async def test_a_process_that_dies_leaves_its_counts_and_takes_its_gauges_along(server: MetricsServer) -> None:
    host = Process("host")
    await connected("host")
    host.calls.inc(3)
    host.waiting.set(4)
    assert await value("calls_total") == 3
    await host.die()
    await connected("host", 0)
    assert (await value("calls_total"), await value("waiting")) == (3, None)
    successor = Process("host")
    await connected("host")
    successor.calls.inc()
    assert await value("calls_total") == 4
    await successor.die()


async def test_counts_are_gathered_now_and_then_without_a_question() -> None:
    server = MetricsServer(gathers_every_s=0.01)
    await server.open(make_private_dir(), NODE)
    host = Process("host")
    await connected("host")
    host.calls.inc(3)

    async def gathered() -> bool:
        return server._totals._metrics["calls"].counted.get(("calls_total", ())) == 3

    await until(gathered)
    await host.die()
    await server.close()


async def test_a_process_that_stands_still_does_not_keep_the_others_back(server: MetricsServer) -> None:
    host = Process("host")
    await connected("host")
    host.calls.inc(3)
    reader, writer = await asyncio.open_unix_connection(socket_in(next(private_dir.private_dirs()), NODE))
    writer.write(b"\x00\x00\x00\x07\x91\xa5still")
    await connected("still")
    assert await value("calls_total") == 3
    writer.close()
    assert reader is not None
    await host.die()


async def test_nonsense_on_the_socket_ends_that_connection_alone(server: MetricsServer) -> None:
    reader, writer = await asyncio.open_unix_connection(socket_in(next(private_dir.private_dirs()), NODE))
    writer.write(b"\x00\x00\x00\x03\xc1\xc1\xc1")
    assert await reader.read() == b""
    writer.close()
    assert await value("satmeter_processes", "main") == 1


async def test_without_a_server_on_the_node_there_are_no_totals(server: MetricsServer) -> None:
    with pytest.raises(NoTotalsError):
        await ask_totals(OTHER_NODE)
    await server.close()
    with pytest.raises(NoTotalsError):
        await ask_totals(NODE)


async def test_what_was_counted_while_no_server_was_there_is_handed_over_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("satmeter.actors.metrics.link._CONNECTS_AGAIN_S", 0.01)
    host = Process("host")
    host.calls.inc(3)
    server = MetricsServer()
    await server.open(make_private_dir(), NODE)
    await connected("host")
    assert await value("calls_total") == 3
    await server.close()
    host.calls.inc(2)
    successor = MetricsServer()
    await successor.open(make_private_dir(), NODE)
    await connected("host")
    assert await value("calls_total") == 2, "a new server begins at zero, as Prometheus expects of one"
    await host.die()
    await successor.close()


async def test_a_server_that_ends_before_its_processes_logs_no_defect() -> None:
    defects: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: defects.append(context["message"]))
    server = MetricsServer()
    await server.open(make_private_dir(), NODE)
    process = Process("host")
    await connected("host")
    await server.close()
    await process.die()
    await asyncio.sleep(0)
    assert defects == []
