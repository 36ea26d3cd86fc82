"""The connection between a router and a host: who is let in, what goes through, and how its end shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import uvloop
from msgspec.structs import replace
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.actors import transport
from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.llm.relays import RelayBody
from satmeter.actors.frames import read_frame, write_frame
from satmeter.actors.host_link import LinkError
from satmeter.actors.messages import ANSWERS, Answer, Call, Cancel, Ping, Pong
from satmeter.actors.partitioning import PARTITIONS
from satmeter.actors.router.router import Router
from satmeter.actors.transport import Handshake, HostAddress, HostListener, SocketLink
from tests.helpers.hosts import World
from tests.helpers.patience import PATIENCE_S
from tests.helpers.relays import relay
from tests.helpers.session_steps import answered, ask, opened, show


class Host:
    """Answers what the test says, and notes what came in. `submit` waits while `takes` is cleared."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Call | Cancel]] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.answers: asyncio.Queue[Answer] = asyncio.Queue()

    async def submit(self, queue_id: str, calls: list[Call | Cancel]) -> None:
        await self.takes.wait()
        self.taken += [(queue_id, call) for call in calls]
        for call in calls:
            if isinstance(call, Call):
                self.answers.put_nowait(Answer(call.call_id, Pong()))

    async def collect(self, queue_id: str, longest_s: float) -> list[Answer]:
        try:
            async with asyncio.timeout(longest_s):
                return [await self.answers.get()]
        except TimeoutError:
            return []


@asynccontextmanager
async def listening_host() -> AsyncIterator[tuple[Host, HostListener, HostAddress]]:
    host = Host()
    entrance = HostListener(host)  # type: ignore[arg-type]
    try:
        yield host, entrance, await entrance.open("127.0.0.1")
    finally:
        entrance.close()


def link_to(endpoint: HostAddress) -> SocketLink:
    async def find() -> HostAddress:
        return endpoint

    return SocketLink(find)


async def test_calls_go_there_and_answers_come_back_in_their_own_queue() -> None:
    async with listening_host() as (host, _, endpoint):
        link = link_to(endpoint)
        await link.submit("queue", [Call(1, "job_1", Ping()), Call(2, "job_2", Ping())])
        assert await link.collect("queue") == [Answer(1, Pong())]
        assert await link.collect("queue") == [Answer(2, Pong())]
        assert host.taken == [("queue", Call(1, "job_1", Ping())), ("queue", Call(2, "job_2", Ping()))]
        await link.close()


async def test_who_does_not_know_the_token_is_turned_away() -> None:
    async with listening_host() as (host, _, endpoint):
        stranger = link_to(HostAddress(endpoint.address, endpoint.port, "guessed"))
        with pytest.raises(LinkError):
            await stranger.collect("queue")
        await stranger.close()
        assert host.taken == []


@pytest.mark.parametrize("sent", [b"", b"\x00\x00\x00\x03abc", b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_is_no_router_is_turned_away(sent: bytes) -> None:
    async with listening_host() as (host, _, endpoint):
        reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert host.taken == []


async def test_a_frame_that_the_host_can_not_read_ends_the_connection() -> None:
    async with listening_host() as (host, _, endpoint):
        reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
        write_frame(writer, msgspec.msgpack.encode(Handshake(endpoint.token, "queue")))
        write_frame(writer, b"no message")
        # Only heartbeats come before the end.
        assert set((await reader.read())[4:]) <= {0x90, 0}
        writer.close()
        assert host.taken == []


async def test_a_connection_that_breaks_is_not_mended_for_the_same_queue() -> None:
    async with listening_host() as (_, entrance, endpoint):
        link = link_to(endpoint)
        await link.submit("queue", [Call(1, "job_1", Ping())])
        await link.collect("queue")
        entrance.close()
        with pytest.raises(LinkError):
            await link.collect("queue")
        with pytest.raises(LinkError):
            await link.collect("queue")
        await link.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_to_write_after_a_long_silence_is_a_broken_link(
    run: Callable[[Coroutine[Any, Any, None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_SILENCE_MAX_S", 0.05)

    async def scene() -> None:
        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
        link = link_to(HostAddress("127.0.0.1", server.sockets[0].getsockname()[1], "token"))
        with pytest.raises(LinkError):
            await link.collect("queue")
        # The front may send before it has read that the connection is over.
        sending = link.submit("queue", [Call(1, "job_1", Ping())])
        (outcome,) = await asyncio.gather(sending, return_exceptions=True)
        await link.close()
        server.close()
        for writer in writers:
            writer.close()
            await writer.wait_closed()
        assert isinstance(outcome, LinkError), outcome

    run(scene())


async def test_another_queue_is_another_connection() -> None:
    async with listening_host() as (host, _, endpoint):
        link = link_to(endpoint)
        await link.submit("first", [Call(1, "job_1", Ping())])
        await link.collect("first")
        await link.submit("second", [Call(2, "job_1", Ping())])
        assert await link.collect("second") == [Answer(2, Pong())]
        assert [queue for queue, _ in host.taken] == ["first", "second"]
        await link.close()


async def test_a_host_that_falls_silent_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.transport._SILENCE_MAX_S", 0.05)
    monkeypatch.setattr("satmeter.actors.transport._HEARTBEAT_S", 60.0)
    async with listening_host() as (_, _, endpoint):
        link = link_to(endpoint)
        with pytest.raises(LinkError):
            await link.collect("queue")
        await link.close()


async def test_a_host_that_has_nothing_to_say_stays_alive_by_its_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("satmeter.actors.transport._HEARTBEAT_S", 0.01)
    async with listening_host() as (host, _, endpoint):
        link = link_to(endpoint)
        collecting = asyncio.create_task(link.collect("queue"))
        await asyncio.wait({collecting}, timeout=0.1)
        host.answers.put_nowait(Answer(7, Pong()))
        assert await collecting == [Answer(7, Pong())]
        await link.close()


async def test_a_host_that_does_not_say_where_it_is_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A front that had never spoken to a host before it stood still would else wait until it wakes."""
    monkeypatch.setattr("satmeter.actors.transport._SILENCE_MAX_S", 0.01)

    async def find() -> HostAddress:
        await asyncio.Event().wait()
        raise AssertionError

    link = SocketLink(find)
    with pytest.raises(LinkError):
        async with asyncio.timeout(PATIENCE_S):
            await link.submit("queue", [])
    await link.close()


async def test_nobody_at_the_address_is_a_broken_way() -> None:
    async with listening_host() as (_, entrance, endpoint):
        entrance.close()
    with pytest.raises(LinkError):
        await link_to(endpoint).submit("queue", [Call(1, "job_1", Ping())])


async def test_a_session_works_over_the_wire_and_survives_its_breaking(redis: Redis) -> None:
    world = World(redis)
    host = world.host()
    await host.start(range(PARTITIONS))
    entrances = [HostListener(host)]
    endpoints = [await entrances[0].open("127.0.0.1")]

    async def find() -> HostAddress:
        return endpoints[-1]

    router = Router(world.journal.owners, lambda host_id: SocketLink(find))
    await opened(router)
    world.model.gate.close()
    asking = asyncio.create_task(answered(router, ask(1)))
    await world.model.gate.wait_for_arrival()
    entrances.append(HostListener(host))
    endpoints.append(await entrances[1].open("127.0.0.1"))
    entrances[0].close()
    world.model.gate.open()
    answer = await asking
    assert (await show(router)).spent_msat == answer.cost.debit_msat
    assert len(world.model.evaluated) == 1
    await router.close()
    entrances[1].close()
    await host.stop(patience_s=0)


def test_servers_of_earlier_versions_read_the_names_of_the_fields() -> None:
    """Keep them: during a rolling upgrade, routers and hosts of two versions speak to each other."""
    assert msgspec.to_builtins(HostAddress("127.0.0.1", 1, "secret")) == {
        "address": "127.0.0.1", "port": 1, "word": "secret",
    }  # fmt: skip
    assert msgspec.to_builtins(Handshake("secret", "q")) == {"word": "secret", "inbox_id": "q"}
    assert msgspec.to_builtins(Cancel(1, ("q",))) == {"type": "cancel", "call_id": 1, "inboxes": ("q",)}


async def test_a_call_of_32_mib_goes_through_and_the_next_ones_behind_it() -> None:
    large = replace(relay(), body=RelayBody(b"x" * 32 * 1_048_576, 1, 0, 1))
    async with listening_host() as (host, _, endpoint):
        link = link_to(endpoint)
        await link.submit("queue", [Call(1, "ses_1", large), Call(2, "ses_1", large)])
        await link.submit("queue", [Call(3, "job_1", Ping())])
        assert [(await link.collect("queue"))[0].call_id for _ in range(3)] == [1, 2, 3]
        assert [call for _, call in host.taken] == [
            Call(1, "ses_1", large),
            Call(2, "ses_1", large),
            Call(3, "job_1", Ping()),
        ]
        await link.close()


async def test_a_command_that_only_later_versions_know_is_refused_and_the_others_are_served() -> None:
    """A front of a later release asks; to end its connection would fail the calls of all its clients."""
    later = {"type": "call", "call_id": 2, "actor_id": "job_1", "command": {"type": "of_a_later_version", "x": [1]}}
    calls = [msgspec.to_builtins(Call(number, "job_1", Ping())) for number in (1, 3)]
    async with listening_host() as (_, _, endpoint):
        reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
        write_frame(writer, msgspec.msgpack.encode(Handshake(endpoint.token, "queue")))
        with capture_logs() as logs:
            for _ in range(2):
                write_frame(writer, msgspec.msgpack.encode([calls[0], later, calls[1]]))
            told: list[Answer] = []
            async with asyncio.timeout(PATIENCE_S):
                while len(told) < 6:
                    told += ANSWERS.decode(await read_frame(reader, 10_000))
        writer.close()
    refused = [answer.reply for answer in told if answer.call_id == 2]
    assert [reply.code for reply in refused if isinstance(reply, Refusal)] == [Code.UNAVAILABLE] * 2
    assert sorted(answer.call_id for answer in told if answer.reply == Pong()) == [1, 1, 3, 3]
    assert [(entry["event"], entry["command"]) for entry in logs] == [("command_unknown", "of_a_later_version")]


async def test_a_message_that_is_no_call_ends_the_connection() -> None:
    async with listening_host() as (host, _, endpoint):
        reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
        write_frame(writer, msgspec.msgpack.encode(Handshake(endpoint.token, "queue")))
        write_frame(writer, msgspec.msgpack.encode([{"type": "of_a_later_version", "call_id": 1}]))
        assert set((await reader.read())[4:]) <= {0x90, 0}
        writer.close()
        assert host.taken == []
