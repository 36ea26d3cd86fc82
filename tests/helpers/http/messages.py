"""A front whose model is a Messages API of a test's, and Anthropic's own SDK as its client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from dataclasses import replace as changed_state
from typing import Any, cast

import httpx2
from anthropic import AsyncAnthropic
from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.adapters.anthropic.client import AnthropicProvider
from satmeter.actors.adapters.redis.limits import RedisLimits
from satmeter.actors.adapters.redis.model_outage import RedisModelBoard
from satmeter.actors.adapters.stub.messages_api import StubMessagesApi
from satmeter.actors.catalogue.loading import model_catalogue
from satmeter.actors.domain.credentials import macaroon
from satmeter.actors.model_health.circuit_breaker import GatedProvider, ModelGate
from satmeter.actors.model_health.news import UpstreamNews
from satmeter.actors.model_health.outage import ModelCache
from satmeter.actors.operator_terms import pricing_terms
from satmeter.config.settings import Settings
from satmeter.http.app import create_app
from tests.helpers.anthropic_streams import Body
from tests.helpers.fakes import Gate
from tests.helpers.hosts import HOST_SESSION_TERMS, World, until
from tests.helpers.http.fronts import Api, client_of, listening, make_app_state
from tests.helpers.http.over_transport import OverTransport
from tests.helpers.jobs import JOB_TERMS
from tests.helpers.upstreams import over

MODEL = "claude-sonnet-5-5"
HELLO: list[Any] = [{"role": "user", "content": "Hello, model"}]


@dataclass
class Upstream(httpx2.AsyncBaseTransport):
    """The provider: answers by `reply`, or as the stub does, once the `gate` is open; notes what came.

    `cut`: how many calls were hung up on while they stood before the gate. A count passes beside it.
    """

    reply: Callable[[httpx2.Request], httpx2.Response] | None = None
    requests: list[httpx2.Request] = field(default_factory=list)
    stub: StubMessagesApi = field(default_factory=StubMessagesApi)
    gate: Gate = field(default_factory=Gate)
    cut: int = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        await request.aread()
        if not request.url.path.endswith("/count_tokens"):
            try:
                await self.gate.pass_through()
            except asyncio.CancelledError:
                self.cut += 1
                raise
        return self.reply(request) if self.reply else await self.stub.handle_async_request(request)

    @property
    def bodies(self) -> list[Any]:
        """Return the bodies that were sent, as JSON."""
        return [json.loads(request.content) for request in self.requests]

    def streams(self, *chunks: bytes | Exception, hangs: bool = False) -> Body:
        """Answers with these bytes from now on."""
        body = Body(chunks, hangs)
        headers = {"content-type": "text/event-stream; charset=utf-8", "request-id": "req_upstream"}
        self.reply = lambda _: httpx2.Response(200, headers=headers, stream=body)
        return body

    def answers(self, status: int, body: Any, **headers: str) -> None:
        """Answers with this from now on."""
        self.reply = lambda _: httpx2.Response(status, json=body, headers=headers)


@dataclass
class Shop:
    """The front, the provider behind it, and a session that is paid for."""

    api: Api
    upstream: Upstream
    url: str
    session_id: str
    key: str

    def sdk(self, key: str | None = None, **options: Any) -> AsyncAnthropic:
        """Anthropic's SDK, with the macaroon as its key."""
        return AsyncAnthropic(base_url=self.url, api_key=key or self.key, **{"max_retries": 0, **options})

    def narrowed(self, *caveats: str) -> str:
        """The key with caveats."""
        return macaroon.attenuate(self.key, list(caveats))

    async def post(self, body: Any, path: str = "/v1/messages", **headers: str) -> Any:
        """Without the SDK; bytes go as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"x-api-key": self.key, "content-type": "application/json", **headers}
        return await self.api.http.post(path, content=content, headers=sent)

    async def show(self) -> Any:
        """The session, whose numbers must add up."""
        answer = await self.api.http.get(
            f"/sessions/{self.session_id}", headers={"authorization": f"Bearer {self.key}"}
        )
        seen = answer.json()
        refund = seen["refund"]["owedMsat"] + seen["refund"]["paidMsat"]
        assert seen["depositedMsat"] == seen["balanceMsat"] + seen["heldMsat"] + seen["spentMsat"] + refund
        return seen

    async def until_free(self) -> None:
        """Waits until nothing is held any more."""

        async def free() -> bool:
            return bool((await self.show())["heldMsat"] == 0)

        await until(free)

    async def ledger(self) -> Sequence[Any]:
        """Its entries."""
        path, headers = f"/sessions/{self.session_id}/ledger", {"authorization": f"Bearer {self.key}"}
        return cast(Sequence[Any], (await self.api.http.get(path, headers=headers)).json()["entries"])


@asynccontextmanager
async def shop_over(redis: Redis, sats: int = 10_000, *, gated: bool = False, **settings: Any) -> AsyncIterator[Shop]:
    """Everything in one process, on a port, with a session over so many sats.

    `gated`: host and front learn from the calls whether the provider is there.
    """
    upstream = Upstream()
    configured = Settings(**settings)
    terms = replace(HOST_SESSION_TERMS, terms=pricing_terms(configured), eval_model=configured.eval_model)
    model = AnthropicProvider(OverTransport(upstream), base_url="http://api.test", key="sk-test")
    world = World(redis, model=cast(Any, over(model)), session_terms=terms)
    world.limits = cast(Any, RedisLimits(redis, world.now_ms))
    if gated:
        gate = ModelGate(RedisModelBoard(redis), world.now_ms)
        world.model = cast(Any, over(GatedProvider(model, gate)))
        world.job_terms = JOB_TERMS
    async with world.serving() as (_, router):
        state = make_app_state(world, router, **settings)
        if gated:
            caches = {"anthropic": ModelCache(RedisModelBoard(redis))}
            news = UpstreamNews(model_catalogue(configured), caches, [configured.work_model], world.now_ms)
            state = changed_state(state, model=news)
        app = create_app(state)
        async with client_of(app) as http, listening(app) as server:
            api = Api(world, state, app, http)
            opened = (await http.post("/sessions", json={"amountSats": sats})).json()
            await api.pay(opened["depositInvoice"])
            yield Shop(api, upstream, server.url, opened["sessionId"], opened["macaroon"])
    await model.close()
