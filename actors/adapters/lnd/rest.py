"""LND's REST interface with a macaroon: the shared exchange, and what LND's errors mean."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from ssl import SSLContext
from typing import Any, Final

import httpx
import msgspec

from ...ports import PermanentError, PortError, TransientError
from ..lightning.http_exchange import Answer, HttpExchange
from .messages import failure_in
from .rights import is_about_macaroon

# After this silence the stream is opened again, as a dead connection is silent too.
_SILENCE_S: Final = 60.0
_MACAROON_HEADER: Final = "Grpc-Metadata-macaroon"
# gRPC's INVALID_ARGUMENT and UNIMPLEMENTED: it would be the same the next time.
_OURS: Final = frozenset({3, 12})


class Rest:
    """LND's REST interface with a macaroon, which no error shows. Every call ends within `timeout_s`."""

    def __init__(
        self,
        url: str,
        macaroon_hex: str,
        *,
        verify: SSLContext | bool,
        timeout_s: float,
        connections: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._headers = {_MACAROON_HEADER: macaroon_hex}
        self._http = HttpExchange(
            url,
            secrets=[macaroon_hex],
            detail_of=_detail_of,
            timeout_s=timeout_s,
            connections=connections,
            verify=verify,
            transport=transport,
        )

    async def ask(
        self,
        method: str,
        path: str,
        turn: AbstractAsyncContextManager[Any],
        *,
        json: Any = None,
        params: Mapping[str, str] | None = None,
        first_line: bool = False,
    ) -> Answer:
        """Return the answer, or the first line of a stream. Raises `TransientError`."""
        content = None if json is None else msgspec.json.encode(json)
        return await self._http.ask(
            method, path, headers=self._headers, content=content, params=params, turn=turn, first_line=first_line
        )

    def lines(self, path: str, params: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield a stream's lines, which end after a long silence. Raises `PortError`."""
        return self._http.lines("GET", path, headers=self._headers, params=params, silence_s=_SILENCE_S)

    def good(self, answer: Answer) -> bytes:
        """Return the body of a success. Raises `PortError` for everything else."""
        if 200 <= answer.status < 300:
            return answer.body
        raise self.failure(answer)

    def failure(self, answer: Answer) -> PortError:
        """Return an answer that is not a success as an error. LND refuses a macaroon with status 500."""
        found, said = failure_in(answer.body), self._http.said(answer)
        if found is not None and (is_about_macaroon(found) or found.code in _OURS):
            return PermanentError(said)
        return TransientError(said, answer.retry_after_s)

    async def close(self) -> None:
        """End connections."""
        await self._http.close()


def _detail_of(body: bytes) -> str | None:
    failure = failure_in(body)
    return None if failure is None else failure.message
