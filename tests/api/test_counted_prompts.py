"""Prompts whose bytes don't bound them: the provider counts them, which it calls an estimate."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from tests.helpers.http.messages import MODEL, shop_over


@pytest.mark.parametrize("sats", [10_000, 100], ids=["a PDF", "too dear by its bytes"])
async def test_a_count_is_an_estimate_and_a_spare_is_held_on_top_of_it(redis: Redis, sats: int) -> None:
    """A twentieth and 500 tokens: what the provider bills beyond its count is held then, and charged."""
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x" * 100}}
    content: Any = [pdf] if sats == 10_000 else "a" * 100_000
    called, billed = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": content}]}, 21_500

    def reply(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/count_tokens"):
            return httpx2.Response(200, json={"input_tokens": 20_000})
        usage = {"input_tokens": billed, "output_tokens": 7}
        return httpx2.Response(200, json={"type": "message", "content": [], "usage": usage})

    async with shop_over(redis, sats=sats) as shop:
        shop.upstream.reply = reply
        shop.upstream.gate.close()
        asking = asyncio.create_task(shop.post(called))
        await shop.upstream.gate.wait_for_arrival()
        assert (await shop.show())["heldMsat"] == math.ceil((21_500 * 2 + 100 * 10 + 500) * 1.4)
        shop.upstream.gate.open()
        assert (await asking).status_code == 200
        assert (await shop.show())["spentMsat"] == math.ceil((billed * 2 + 7 * 10 + 500) * 1.4)
