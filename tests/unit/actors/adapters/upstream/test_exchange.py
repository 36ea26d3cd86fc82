"""Errors of an upstream that quote the key which they were sent: their words may go on to a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pytest

from satmeter.actors.adapters.upstream.exchange import Exchanges
from satmeter.actors.adapters.upstream.http import Take
from satmeter.actors.ports import PermanentError, PortError

KEY = "sk-0123456789abcdef"


@dataclass
class Answering:
    """A client of a server that answers so."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answering:
        self.sent = headers
        return self

    async def get(self, url: str, headers: Mapping[str, str]) -> Answering:
        return await self.post(url, headers, b"")

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body

    async def feed(self, take: Take) -> bool:
        return take(self.body)

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("key", [KEY, None])
async def test_an_error_does_not_tell_the_key_and_is_else_as_it_came(key: str | None) -> None:
    seen: list[tuple[int, Mapping[str, str], bytes]] = []

    def read_error(status: int, headers: Mapping[str, str], body: bytes) -> PortError:
        seen.append((status, headers, body))
        return PermanentError("refused")

    body = b'{"error": {"message": "Bearer ' + KEY.encode() + b' is wrong", "again": "' + KEY.encode() + b'"}}'
    server = Answering(400, body, {"Request-Id": f"req-{KEY}", "Retry-After": "7"})
    with pytest.raises(PermanentError):
        await Exchanges(server, "http://up", {"x": "y"}, read_error, key).post("/path", b"{}")
    ((status, headers, told),) = seen
    assert (status, headers.get("retry-after") or headers.get("Retry-After")) == (400, "7")
    if key is None:
        assert told == body and "authorization" not in server.sent
    else:
        assert server.sent["authorization"] == f"Bearer {KEY}"
        assert told == body.replace(KEY.encode(), b"[key]")
        assert headers["request-id"] == headers["Request-Id"] == "req-[key]"


@pytest.mark.parametrize(
    "text", ["data: hello\n\n", f'event: error\ndata: {{"message": "{KEY}"}}\n\n', f"data: {KEY[:9]}"]
)
async def test_nor_does_an_error_in_the_middle_of_an_answer(text: str) -> None:
    server, told = Answering(200, text.encode(), {"x": KEY}), text.replace(KEY, "[key]").encode()
    exchanges, fed = Exchanges(server, "http://up", {}, lambda *_: PermanentError(""), KEY), list[bytes]()
    async with await exchanges.get("/") as answer:
        assert await answer.body() == told
    async with await exchanges.post("/", b"{}") as answer:
        assert answer.headers["x"] == "[key]"

        def take(chunk: bytes) -> bool:
            fed.append(chunk)
            return False

        await answer.feed(take)
    assert b"".join(fed) == told
