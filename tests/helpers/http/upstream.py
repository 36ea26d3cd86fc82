"""Calls of the HTTP client for model providers, and their failures."""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest

from satmeter.actors.adapters.upstream.http import HttpAnswer, HttpError
from satmeter.actors.adapters.upstream.http_client import AiohttpClient
from tests.helpers.http.raw_server import RawServer

SECRET = "the-secret-words-of-a-client"
BODY = f'{{"text":"{SECRET}"}}'.encode()
KEY = {"x-api-key": SECRET, "content-type": "application/json"}
PATIENCE_S = 10.0
SILENCE_S = 0.2


@asynccontextmanager
async def client(
    silence_s: float = PATIENCE_S, connect_s: float = PATIENCE_S, tls: ssl.SSLContext | None = None
) -> AsyncIterator[AiohttpClient]:
    """A client that is closed in the end."""
    made = AiohttpClient(connect_s, silence_s, tls)
    try:
        yield made
    finally:
        await made.aclose()


async def body_of(answer: HttpAnswer) -> bytes:
    """The whole body."""
    try:
        return b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.aclose()


async def failure_of(call: Awaitable[object]) -> HttpError:
    """The error, which quotes nothing, also not in what it was raised from."""
    with pytest.raises(HttpError) as caught:
        await asyncio.wait_for(call, PATIENCE_S)
    error: BaseException = caught.value
    shown = "".join(traceback.format_exception(error))
    assert error.__cause__ is None and error.__context__ is None
    assert SECRET not in f"{error!r} {vars(error)!r}" and "127.0.0.1" not in str(error)
    assert "aiohttp.client_exceptions" not in shown
    return caught.value


async def exchange(server: RawServer, made: AiohttpClient, body: bytes = BODY) -> bytes:
    """Send a call and read its answer."""
    return await body_of(await made.post(server.url, KEY, body))
