"""Strangers who ask too often, and those who pay meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from satmeter.http.edge.connections import Connections
from satmeter.http.edge.shares import Caps
from tests.api.test_bad_input import assert_error
from tests.helpers.http.fronts import CLIENT, api_over, client_of, listening
from tests.helpers.http.messages import shop_over
from tests.helpers.patience import PATIENCE_S

RATE = 2
BURST = 10 * RATE


async def test_who_asks_too_often_gets_a_429_before_anything_is_read(redis: Redis) -> None:
    async with api_over(redis, requests_per_ip=RATE) as api:
        answers = [await api.http.get("/healthz") for _ in range(BURST + 1)]
        assert [answer.status_code for answer in answers] == [200] * BURST + [429]
        assert_error(answers[-1], 429, "rate_limited")
        assert int(answers[-1].headers["retry-after"]) >= 1
        refused = await api.http.post("/jobs", content=_never_read())
        assert_error(refused, 429, "rate_limited")
        async with client_of(api.app, "198.51.100.8") as neighbour:
            assert (await neighbour.get("/healthz")).status_code == 200


async def _never_read() -> AsyncIterator[bytes]:
    pytest.fail("the body was read")
    yield b""


async def test_a_refusal_has_the_shape_of_the_api_that_was_spoken(redis: Redis) -> None:
    async with api_over(redis, requests_per_ip=1) as api:
        for _ in range(10):
            await api.http.get("/healthz")
        answer = await api.http.post("/v1/messages", json={})
        assert (answer.status_code, answer.json()["error"]["type"]) == (429, "rate_limit_error")


async def test_a_client_that_pays_is_served_while_its_address_is_throttled(redis: Redis) -> None:
    async with shop_over(redis, requests_per_ip=RATE) as shop:
        path = f"/sessions/{shop.session_id}/request"
        headers = {"Authorization": f"Bearer {shop.key}"}
        paid = await shop.api.http.post(path, json={"request": "say hello"}, headers=headers)
        assert paid.status_code == 200, paid.text
        while (await shop.api.http.get("/healthz")).status_code == 200:
            pass
        for _ in range(BURST):
            answer = await shop.api.http.get(f"/sessions/{shop.session_id}", headers=headers)
            assert answer.status_code == 200, answer.text
        assert (await shop.api.http.get("/healthz")).status_code == 429


async def test_a_connection_is_kept_once_money_was_set_aside_for_its_request(redis: Redis) -> None:
    connections = Connections(Caps(9, 9, 9))
    async with (
        shop_over(redis) as shop,
        listening(shop.api.app, connections) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        await client.get("/healthz")
        (connection,) = connections._watched
        assert not connection.has_paid
        path = f"/sessions/{shop.session_id}/request"
        headers = {"Authorization": f"Bearer {shop.key}"}
        assert (await client.post(path, json={"request": "hello"}, headers=headers)).status_code == 200
        assert connection in connections._watched and connection.has_paid


async def test_the_credential_of_an_unpaid_session_opens_nothing(redis: Redis) -> None:
    async with api_over(redis, requests_per_ip=RATE) as api:
        opened = (await api.http.post("/sessions", json={"amountSats": 100})).json()
        headers = {"Authorization": f"Bearer {opened['macaroon']}"}
        statuses = [
            (await api.http.post("/ask", json={"request": "hello"}, headers=headers)).status_code for _ in range(BURST)
        ]
        assert set(statuses) == {402, 429} and statuses[-1] == 429


async def test_event_streams_of_one_address_are_bounded(redis: Redis) -> None:
    async with api_over(redis, streams_per_ip=1) as api:
        job = await api.create()
        async with listening(api.app) as server:
            sent = f"GET /jobs/{job['jobId']}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sent)
            async with asyncio.timeout(PATIENCE_S):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            async with client_of(api.app, "127.0.0.1") as other:
                assert_error(await other.get(f"/jobs/{job['jobId']}/events"), 429, "rate_limited")
                assert (await other.get(f"/jobs/{job['jobId']}")).status_code == 200
            writer.close()


async def test_a_flooding_connection_is_not_read_for_a_while(redis: Redis) -> None:
    async with api_over(redis, requests_per_ip=1) as api, listening(api.app, Connections(Caps(9, 9, 9))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        statuses = []
        while 429 not in statuses:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
            await reader.readexactly(int(lines[b"content-length"]))
            statuses.append(int(head[9:12]))
        # Its tokens refill by one a second, and so the next request is answered only when there is one.
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


@pytest.fixture
def _logged() -> Iterator[None]:
    logger = logging.getLogger("satmeter.http.middleware")
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_logged")
async def test_refused_strangers_are_sampled_in_the_log(redis: Redis) -> None:
    async with api_over(redis, requests_per_ip=1) as api:
        with capture_logs() as logs:
            for _ in range(200):
                await api.http.get("/nothing")
        lines = [line for line in logs if line["event"] == "request_answered"]
        assert 10 < len(lines) < 40
        assert len(json.dumps(lines)) < 20_000


async def test_a_proxys_clients_are_counted_each(redis: Redis) -> None:
    async with api_over(redis, requests_per_ip=1, trusted_proxies=(CLIENT,)) as api:
        one, other = ({"X-Forwarded-For": address} for address in ("203.0.113.1", "203.0.113.2"))
        while (await api.http.get("/healthz", headers=one)).status_code == 200:
            pass
        assert (await api.http.get("/healthz", headers=other)).status_code == 200
