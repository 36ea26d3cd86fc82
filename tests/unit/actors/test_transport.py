"""The connection between a router and a host: who is let in, what goes through, and how its end shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from redis.asyncio import Redis

from satmeter.actors.messages import Answer, Call, Cancel, Ping, Pong
from satmeter.actors.partitioning import PARTITIONS
from satmeter.actors.router.router import LinkError, Router
from satmeter.actors.transport import Door, Hello, HostDoor, SocketLink, _write
from tests.helpers.hosts import World
from tests.helpers.patience import PATIENCE_S
from tests.helpers.session_steps import answered, ask, opened, show


class Host:
    """Answers what the test says, and notes what came in. `submit` waits while `takes` is cleared."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Call | Cancel]] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()

    async def submit(self, inbox_id: str, calls: list[Call | Cancel]) -> None:
        await self.takes.wait()
        self.taken += [(inbox_id, call) for call in calls]
        for call in calls:
            if isinstance(call, Call):
                self.answers.put_nowait(Answer(call.call_id, Pong()))

    async def collect(self, inbox_id: str, longest_s: float) -> list[Answer]:
        try:
            async with asyncio.timeout(longest_s):
                return [await self.answers.get()]
        except TimeoutError:
            return []


@asynccontextmanager
async def opened_door() -> AsyncIterator[tuple[Host, HostDoor, Door]]:
    host = Host()
    entrance = HostDoor(host)  # type: ignore[arg-type]
    try:
        yield host, entrance, await entrance.open("127.0.0.1")
    finally:
        entrance.close()


def link_to(door: Door) -> SocketLink:
    async def find() -> Door:
        return door

    return SocketLink(find)


async def test_calls_go_there_and_answers_come_back_in_their_own_inbox() -> None:
    async with opened_door() as (host, _, door):
        link = link_to(door)
        await link.submit("inbox", [Call(1, "job_1", Ping()), Call(2, "job_2", Ping())])
        assert await link.collect("inbox") == [Answer(1, Pong())]
        assert await link.collect("inbox") == [Answer(2, Pong())]
        assert host.taken == [("inbox", Call(1, "job_1", Ping())), ("inbox", Call(2, "job_2", Ping()))]
        await link.close()


async def test_who_does_not_know_the_word_is_turned_away() -> None:
    async with opened_door() as (host, _, door):
        stranger = link_to(Door(door.address, door.port, "guessed"))
        with pytest.raises(LinkError):
            await stranger.collect("inbox")
        await stranger.close()
        assert host.taken == []


@pytest.mark.parametrize("sent", [b"", b"\x00\x00\x00\x03abc", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_is_no_router_is_turned_away(sent: bytes) -> None:
    async with opened_door() as (host, _, door):
        reader, writer = await asyncio.open_connection(door.address, door.port)
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert host.taken == []


async def test_a_frame_that_the_host_can_not_read_ends_the_connection() -> None:
    async with opened_door() as (host, _, door):
        reader, writer = await asyncio.open_connection(door.address, door.port)
        _write(writer, msgspec.msgpack.encode(Hello(door.word, "inbox")))
        _write(writer, b"no message")
        # Only heartbeats come before the end.
        assert set((await reader.read())[4:]) <= {0x90, 0}
        writer.close()
        assert host.taken == []


async def test_a_connection_that_breaks_is_not_mended_for_the_same_inbox() -> None:
    async with opened_door() as (_, entrance, door):
        link = link_to(door)
        await link.submit("inbox", [Call(1, "job_1", Ping())])
        await link.collect("inbox")
        entrance.close()
        with pytest.raises(LinkError):
            await link.collect("inbox")
        with pytest.raises(LinkError):
            await link.collect("inbox")
        await link.close()


async def test_another_inbox_is_another_connection() -> None:
    async with opened_door() as (host, _, door):
        link = link_to(door)
        await link.submit("first", [Call(1, "job_1", Ping())])
        await link.collect("first")
        await link.submit("second", [Call(2, "job_1", Ping())])
        assert await link.collect("second") == [Answer(2, Pong())]
        assert [inbox for inbox, _ in host.taken] == ["first", "second"]
        await link.close()


async def test_a_host_that_falls_silent_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.transport._SILENCE_MAX_S", 0.05)
    monkeypatch.setattr("satmeter.actors.transport._HEARTBEAT_S", 60.0)
    async with opened_door() as (_, _, door):
        link = link_to(door)
        with pytest.raises(LinkError):
            await link.collect("inbox")
        await link.close()


async def test_a_host_that_has_nothing_to_say_stays_alive_by_its_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.transport._HEARTBEAT_S", 0.01)
    async with opened_door() as (host, _, door):
        link = link_to(door)
        collecting = asyncio.create_task(link.collect("inbox"))
        await asyncio.wait({collecting}, timeout=0.1)
        host.answers.put_nowait(Answer(7, Pong()))
        assert await collecting == [Answer(7, Pong())]
        await link.close()


async def test_a_host_that_does_not_say_where_it_is_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front that had never spoken to a host before it stood still would else wait until it wakes."""
    monkeypatch.setattr("satmeter.actors.transport._SILENCE_MAX_S", 0.01)

    async def find() -> Door:
        await asyncio.Event().wait()
        raise AssertionError

    link = SocketLink(find)
    with pytest.raises(LinkError):
        async with asyncio.timeout(PATIENCE_S):
            await link.submit("inbox", [])
    await link.close()


async def test_nobody_at_the_address_is_a_broken_way() -> None:
    async with opened_door() as (_, entrance, door):
        entrance.close()
    with pytest.raises(LinkError):
        await link_to(door).submit("inbox", [Call(1, "job_1", Ping())])


async def test_a_session_works_over_the_wire_and_survives_its_breaking(redis: Redis) -> None:
    world = World(redis)
    host = world.host()
    await host.start(range(PARTITIONS))
    entrances = [HostDoor(host)]
    doors = [await entrances[0].open("127.0.0.1")]

    async def find() -> Door:
        return doors[-1]

    router = Router(world.journal.owners, lambda host_id: SocketLink(find))
    await opened(router)
    world.model.gate.close()
    asking = asyncio.create_task(answered(router, ask(1)))
    await world.model.gate.wait_for_arrival()
    entrances.append(HostDoor(host))
    doors.append(await entrances[1].open("127.0.0.1"))
    entrances[0].close()
    world.model.gate.open()
    answer = await asking
    assert (await show(router)).spent_msat == answer.cost.debit_msat
    assert len(world.model.evaluated) == 1
    await router.close()
    entrances[1].close()
    await host.stop(patience_s=0)
