"""A relay's connection: it comes back, its loss is seen at once, and odd relays neither hold it up nor wear it out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import nostr_sdk
import pytest
import structlog.testing
from websockets.asyncio.server import ServerConnection, serve

from satmeter.actors.adapters.nwc.connection import Connection
from satmeter.actors.adapters.nwc.nostr import Identity, RawEvent, Signed
from satmeter.actors.adapters.nwc.relay import Relay
from tests.lightning.stand_ins.nwc.relay import RelayProcess, running_relay
from tests.lightning.waiting import soon

OPEN_TIMEOUT_S = 0.3


@dataclass
class Log:
    """A listener that writes down what it is told."""

    said: list[str] = field(default_factory=list)

    def came(self, relay: Relay, event: RawEvent) -> None:
        self.said.append(f"came {event.content}")

    def refused(self, relay: Relay, event_id: str, reason: str) -> None:
        self.said.append(f"refused {reason}")

    def ready(self, relay: Relay) -> None:
        self.said.append("ready")

    def lost(self, relay: Relay) -> None:
        self.said.append("lost")


def identity() -> Identity:
    keys = nostr_sdk.Keys.generate(), nostr_sdk.Keys.generate()
    return Identity(Connection(keys[0].public_key().to_hex(), (), keys[1].secret_key().to_hex()))


@asynccontextmanager
async def relay_at(url: str, log: Log, kinds: tuple[int, ...] = (1,)) -> AsyncIterator[Relay]:
    relay = Relay(url, identity(), log, lambda: [{"kinds": kinds}], open_timeout_s=OPEN_TIMEOUT_S)
    try:
        yield relay
    finally:
        await relay.close()


Script = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[str]:
    """A relay that does what a test wants."""
    async with serve(script, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def note(text: str) -> nostr_sdk.Event:
    return nostr_sdk.EventBuilder(nostr_sdk.Kind(1), text).finalize(nostr_sdk.Keys.generate())


async def test_events_go_out_and_come_in(nostr_relay: RelayProcess) -> None:
    log = Log()
    async with relay_at(nostr_relay.url, log, kinds=(21_234,)) as relay:
        assert not relay.is_ready
        assert await relay.connected()
        assert relay.is_ready
        event = nostr_sdk.EventBuilder(nostr_sdk.Kind(21_234), "hi").finalize(nostr_sdk.Keys.generate())

        assert await relay.send(Signed(event.id().to_hex(), event.as_json()))
        await soon(lambda: "came hi" in log.said)


async def test_a_relay_that_is_gone_is_seen_at_once_and_found_again() -> None:
    log = Log()
    with running_relay() as process:
        async with relay_at(process.url, log) as relay:
            assert await relay.connected()
            process.kill()
            await soon(lambda: "lost" in log.said)
            assert not relay.is_ready
            assert not await relay.connected()
            process.start()
            await soon(lambda: log.said == ["ready", "lost", "ready"])


async def test_a_relay_that_nobody_is_at_is_told_at_once() -> None:
    async with relay_at("ws://127.0.0.1:9", Log()) as relay:
        async with asyncio.timeout(5):
            assert not await relay.connected()
            assert not await relay.connected()


async def test_a_relay_that_is_away_is_logged_once() -> None:
    with structlog.testing.capture_logs() as logs:
        async with relay_at("ws://127.0.0.1:9", Log()) as relay:
            for _ in range(3):
                assert not await relay.connected()
    assert [log["event"] for log in logs] == ["relay_connection_broke"]
    assert logs[0]["relay"] == "127.0.0.1"


async def test_a_relay_that_says_nothing_is_given_up() -> None:
    async with scripted(lambda socket: socket.wait_closed()) as url, relay_at(url, Log()) as relay:
        assert not await relay.connected()


async def test_a_relay_that_asks_who_we_are_is_told() -> None:
    seen: list[str] = []

    async def asks(socket: ServerConnection) -> None:
        await socket.send('["AUTH","who?"]')
        async for text in socket:
            message = json.loads(text)
            if message[0] == "AUTH":
                event = nostr_sdk.Event.from_json(json.dumps(message[1]))
                assert event.verify()
                seen.append(message[1]["tags"][1][1])
            elif seen:
                await socket.send('["EOSE","satmeter"]')
            else:
                await socket.send('["CLOSED","satmeter","auth-required: who?"]')

    async with scripted(asks) as url, relay_at(url, Log()) as relay:
        assert await relay.connected()
        assert seen == ["who?"]


@pytest.mark.parametrize("last", ['["CLOSED","satmeter","error"]', None])
async def test_a_relay_that_puts_us_out_is_not_worn_out(last: str | None) -> None:
    connections: list[ServerConnection] = []

    async def puts_out(socket: ServerConnection) -> None:
        connections.append(socket)
        await socket.recv()
        await socket.send('["EOSE","satmeter"]')
        if last is not None:
            await socket.send(last)
            await socket.wait_closed()

    log = Log()
    async with scripted(puts_out) as url, relay_at(url, log) as relay:
        await relay.connected()
        await soon(lambda: log.said.count("lost") >= 2)
        # The pauses are 0.1 and 0.5 seconds at first.
        assert len(connections) <= 4


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        "{}",
        "[1]",
        "[" * 2_000,
        '["EVENT"]',
        '["EVENT","satmeter",{}]',
        '["OK"]',
        '["NOTICE","hello"]',
        '["X"]',
    ],
)
async def test_nonsense_is_left_alone(text: str) -> None:
    async def speaks(socket: ServerConnection) -> None:
        await socket.recv()
        for said in (text, '["EOSE","satmeter"]', text, json.dumps(["OK", "ab", False, "blocked: " + "x" * 500])):
            await socket.send(said)
        await socket.wait_closed()

    log = Log()
    async with scripted(speaks) as url, relay_at(url, log) as relay:
        assert await relay.connected()
        await soon(lambda: len(log.said) == 2)
        assert log.said[0] == "ready"
        assert log.said[1].startswith("refused blocked")
        assert len(log.said[1]) < 120
        assert relay.is_ready


async def test_a_closed_connection_stays_closed(nostr_relay: RelayProcess) -> None:
    log = Log()
    async with relay_at(nostr_relay.url, log) as relay:
        assert await relay.connected()
        await relay.close()
        await relay.close()
        assert not relay.is_ready
        event = note("late")

        assert not await relay.send(Signed(event.id().to_hex(), event.as_json()))


async def test_after_our_clock_was_set_back_the_relay_is_asked_for_what_it_would_else_keep_from_us() -> None:
    """Else the relay takes each answer for older than what was asked for, and every question times out."""
    since, asked = [7_200], []

    async def relays(socket: ServerConnection) -> None:
        async for text in socket:
            message = json.loads(text)
            if message[0] == "REQ":
                asked.append(message[2]["since"])
                await socket.send('["EOSE","satmeter"]')
            else:
                await socket.send(f'["OK","{message[1]["id"]}",false,"seen"]')

    log, event = Log(), note("hi")
    signed = Signed(event.id().to_hex(), event.as_json())
    async with scripted(relays) as url:
        relay = Relay(url, identity(), log, lambda: [{"kinds": [1], "since": since[0]}], open_timeout_s=OPEN_TIMEOUT_S)
        assert await relay.connected()
        for since[0] in (7_300, 3_600, 3_700):
            assert await relay.send(signed)
        await soon(lambda: log.said.count("refused seen") == 3)
        await relay.close()
    assert asked == [7_200, 3_600]
