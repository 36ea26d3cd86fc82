"""`satmeter load` as a command against a real HTTP server, in good order and with faults planted in between."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.helpers.http.fronts import Api, api_over, listening

# A model that the hosts of these tests have, and fronts by default don't.
WORK_MODEL = "sonnet"
RATES = dict.fromkeys(("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"), "1.00")
COMMAND = str(Path(sys.executable).with_name("satmeter"))
Change = Callable[[dict[str, Any]], None]


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    async with api_over(redis, work_model=WORK_MODEL, rates={WORK_MODEL: RATES}) as front:
        yield front


async def _load(url: str, *words: str) -> tuple[int, str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SATMETER_")}
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *("load", url, "--sessions", "5", "--deposit", "1000", "--max-tokens", "100", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Faulty:
    """The application with faults in its answers: these to the first requests, one each, and changed ones by path."""

    def __init__(self, app: ASGIApp, faults: Sequence[str] = (), changes: dict[str, Change] | None = None) -> None:
        self._app = app
        self._faults = list(faults)
        self._changes = changes or {}
        self.keys: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, fault = scope["path"], ""
        if path.endswith("/request"):
            key = dict(scope["headers"])[b"idempotency-key"].decode()
            if self._faults and key not in self.keys:
                fault = self._faults.pop(0)
            self.keys.append(key)
        if fault == "busy":
            await _busy(send)
            return
        change = next((change for end, change in self._changes.items() if path.endswith(end)), None)
        if change is not None:
            send = _changed(send, change)
        # One that is lost was carried out.
        await self._app(scope, receive, _cut(send) if fault == "lost" else send)


async def _busy(send: Send) -> None:
    body = b'{"error":"later","code":"unavailable","requestId":"req_1"}'
    headers = [(b"retry-after", b"0"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _cut(send: Send) -> Send:
    """The answer breaks off before its end."""

    async def cut(message: Message) -> None:
        if message["type"] == "http.response.start" or message.get("more_body"):
            await send(message)

    return cut


def _changed(send: Send, change: Change) -> Send:
    start: Message = {}

    async def changed(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        body = msgspec.json.decode(message["body"])
        change(body)
        encoded = msgspec.json.encode(body)
        headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", str(len(encoded)).encode())]})
        await send({**message, "body": encoded})

    return changed


async def test_a_short_test_ends_with_closed_books_a_report_and_a_picture(api: Api, tmp_path: Path) -> None:
    async with listening(api.app) as server:
        status, out, err = await _load(
            *(server.url, "--rate", "40", "--duration", "0.5", "--json", "-"),
            *("--plot", str(tmp_path / "plot.svg"), "--keep", str(tmp_path / "kept")),
        )
    assert status == 0, err
    report = msgspec.json.decode(out)
    assert (report["exit_status"], report["requests"], report["answered"], report["failed"]) == (0, 20, 20, 0)
    books = report["books"]
    assert books["close"] and books["sessions"] == 5 and books["deposited_msat"] == 5_000_000
    assert books["spent_msat"] == books["told_msat"] > 0 and books["unknown_requests"] == 0
    assert report["latency"]["count"] == 20 and report["latency"]["p50_ms"] <= report["latency"]["max_ms"]
    # Standard output is the JSON alone; for people there is the summary beside it, in plain lines.
    assert "The books close: 5 sessions" in err and "\x1b" not in err
    assert ElementTree.fromstring((tmp_path / "plot.svg").read_bytes()).tag.endswith("svg")
    kept = (tmp_path / "kept").read_text().splitlines()
    assert len({msgspec.json.decode(line)["macaroon"] for line in kept}) == 5
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600


@pytest.mark.parametrize("words", [("--stream", "--rate", "40"), ("--think", "0.1")])
async def test_streams_and_the_closed_loop_close_their_books_too(
    api: Api, tmp_path: Path, words: tuple[str, ...]
) -> None:
    async with listening(api.app) as server:
        status, out, err = await _load(server.url, "--duration", "0.5", "--json", str(tmp_path / "report"), *words)
    assert status == 0, err
    assert "The books close" in out
    report = msgspec.json.decode((tmp_path / "report").read_bytes())
    assert report["answered"] == report["requests"] > 0
    if "--stream" in words:
        assert report["first_token"]["count"] == report["answered"]
    else:
        assert report["lateness"] is None and report["plan"]["loop"] == "closed"


@pytest.mark.parametrize("stream", [(), ("--stream",)])
async def test_lost_and_refused_answers_are_mended_under_the_same_key(api: Api, stream: tuple[str, ...]) -> None:
    faulty = Faulty(api.app, ["lost", "busy", "lost", "lost", "busy"])
    async with listening(faulty) as server:
        status, out, err = await _load(server.url, "--rate", "20", "--duration", "0.5", "--json", "-", *stream)
    assert status == 0, err
    report = msgspec.json.decode(out)
    assert (report["requests"], report["answered"]) == (10, 10)
    assert report["retries"] == {
        "unavailable_attempts": 2,
        "unavailable_mended_requests": 2,
        "lost_attempts": 3,
        "lost_mended_requests": 3,
    }
    assert len(faulty.keys) == 15 and len(set(faulty.keys)) == 10
    assert len(api.world.model.completed + api.world.model.streamed) == 10


@pytest.mark.parametrize(
    ("path", "field", "words"),
    [
        ("/request", "debitedMsat", "but the ledger has"),
        ("", "spentMsat", "depositedMsat is 1000000, but balance, held, spent, owed and paid back are 1000001 in all"),
    ],
)
async def test_books_that_do_not_close_are_told_with_status_1(api: Api, path: str, field: str, words: str) -> None:
    def change(body: dict[str, Any]) -> None:
        if field in body:
            body[field] += 1

    async with listening(Faulty(api.app, changes={path: change})) as server:
        status, out, _ = await _load(server.url, "--rate", "20", "--duration", "0.2", "--json", "-")
    assert status == 1
    books = msgspec.json.decode(out)["books"]
    assert not books["close"] and words in books["first_difference"]


async def test_a_signal_ends_the_load_early_and_the_books_are_still_checked(api: Api) -> None:
    asked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/request"):
            asked.set()
        await api.app(scope, receive, send)

    async with listening(app) as server:
        process = await asyncio.create_subprocess_exec(
            COMMAND, "load", server.url, "--sessions", "2", "--duration", "600", stdout=asyncio.subprocess.PIPE
        )
        await asked.wait()
        process.terminate()
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"ended early" in out and b"The books close: 2 sessions" in out


async def test_it_says_what_to_do_when_sessions_can_not_be_opened(api: Api) -> None:
    status, _, err = await _load("http://127.0.0.1:1")
    assert status == 1 and "No Satmeter server answers there" in err and "satmeter serve" in err
    async with listening(api.app) as server:
        status, out, _ = await _load(server.url, "--deposit", "5")
        assert status == 1 and "amountSats: Must be from 100 to 100000" in out


async def test_a_limit_of_unpaid_invoices_is_explained(redis: Redis) -> None:
    async with api_over(redis, unpaid_per_ip=1) as api, listening(api.app) as server:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as somebody:
            assert (await somebody.post("/sessions", json={"amountSats": 100})).status_code == 201
        status, out, _ = await _load(server.url)
    assert status == 1 and "SATMETER_RATE_LIMITS=off" in out


async def test_a_test_in_which_nothing_is_answered_fails(redis: Redis) -> None:
    async with api_over(redis) as api, listening(api.app) as server:
        status, out, _ = await _load(server.url, "--rate", "20", "--duration", "0.1")
    assert status == 1
    assert "Not one request was answered" in out and "There is no such model" in out and "The books close" in out
