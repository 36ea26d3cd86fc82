"""A front whose model is an upstream of chat completions that a test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from msgspec.structs import replace
from redis.asyncio import Redis

from satmeter.actors.adapters.openai.client import OpenAiProvider
from satmeter.actors.adapters.redis.limits import RedisLimits
from satmeter.actors.adapters.upstream.http import HttpError
from satmeter.actors.catalogue.loading import model_catalogue
from satmeter.actors.effects.upstreams import Upstreams
from satmeter.actors.operator_terms import session_terms
from satmeter.config.settings import Settings
from satmeter.http.app import create_app
from tests.helpers.chat_upstream import Answer, FakeHttp, Sent, answering, message
from tests.helpers.hosts import HOST_SESSION_TERMS, World
from tests.helpers.http.fronts import Api, client_of, listening, make_app_state
from tests.helpers.http.messages import Shop, Upstream

TINY = "tiny"
MODELS_FILE = """
[[upstreams]]
name = "local"
api = "openai"
base_url = "http://upstream.test/v1"

[models.tiny]
upstream = "local"
model = "tiny-llama"
aliases = ["small"]
input = "1.00"
output = "2.00"
cache_read = "0.10"
cache_write_5m = "1.00"
cache_write_1h = "1.00"
context_tokens = 8192
max_output_tokens = 2048
"""
Reply = Answer | HttpError | Callable[[Sent], Answer | HttpError]


@dataclass
class ChatUpstream:
    """The upstream: answers the calls by `reply`, and no count."""

    reply: Reply = field(default_factory=lambda: answering(200, message("Hello, client.")))
    http: FakeHttp = field(init=False)

    def __post_init__(self) -> None:
        self.http = FakeHttp(self._answer)

    @property
    def bodies(self) -> list[Any]:
        """The bodies of the calls, decoded."""
        return [sent.json for sent in self.http.sent if sent.url.endswith("/chat/completions")]

    def _answer(self, sent: Sent) -> Answer | HttpError:
        if callable(self.reply):
            return self.reply(sent)
        return self.reply if sent.url.endswith("/chat/completions") else answering(404, {"error": {"message": "none"}})


@dataclass
class ChatShop(Shop):
    """The front, the upstream behind it, and a session that is paid for. `upstream` is not asked."""

    chat: ChatUpstream = field(default_factory=ChatUpstream)


@asynccontextmanager
async def chat_shop_over(
    redis: Redis, place: Path, sats: int = 10_000, *, missing_usage: str = "bound", **settings: Any
) -> AsyncIterator[ChatShop]:
    """Everything in one process, on a port, with a session over so many sats. The models file is written to `place`."""
    models_file = place / "models.toml"
    models_file.write_text(f'{MODELS_FILE}missing_usage = "{missing_usage}"\n')
    settings = {"models_file": models_file, "eval_model": TINY, "work_model": TINY, **settings}
    configured = Settings(**settings)
    chat = ChatUpstream()
    provider = OpenAiProvider(chat.http, base_url="http://upstream.test/v1")
    model = Upstreams(model_catalogue(configured), {"local": provider}, TINY)
    own = session_terms(configured)
    terms = replace(HOST_SESSION_TERMS, terms=own.terms, eval_model=own.eval_model)
    world = World(redis, model=cast(Any, model), session_terms=terms)
    world.limits = cast(Any, RedisLimits(redis, world.now_ms))
    async with world.serving() as (_, router):
        state = make_app_state(world, router, **settings)
        app = create_app(state)
        async with client_of(app) as http, listening(app) as server:
            api = Api(world, state, app, http)
            opened = (await http.post("/sessions", json={"amountSats": sats})).json()
            await api.pay(opened["depositInvoice"])
            yield ChatShop(api, Upstream(), server.url, opened["sessionId"], opened["macaroon"], chat)
    await model.close()
