"""HTTP client for model providers: one POST, its answer piece by piece, and errors that say whether it was sent.

Money hangs on that last point: a call that reached nobody costs nothing and can go to another provider, and one that
may have arrived may be billed. So each error of the library becomes one of three, and nothing else of it goes on. Its
text could quote an answer, and its attributes hold the key.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import truststore

from .fed_body import FedBody, body_failure
from .http import HttpAnswer, HttpError, NotSentError, SentUnknownError, SilentServerError, Take

CONNECT_TIMEOUT_S: Final = 5.0
SILENCE_TIMEOUT_S: Final = 120.0
# Servers close an idle connection after a time of their own, the most common ones after 5 s (uvicorn, llama.cpp, Node).
# A call on a connection that is just being closed may have arrived or not, so idle ones are left before.
_IDLE_S: Final = 4.0
# How often a body that is waited for is looked after; see `_AiohttpAnswer._look`.
_LOOK_S: Final = 5.0
# A busy loop has not seen yet which kept connections were closed meanwhile. In the second turn from now it has.
_TURNS: Final = 2
# The kernel takes so much of a request also for a server that does not read.
_WRITTEN_AT_ONCE_BYTES: Final = 8_192
# A connection that was closed before the first byte was written is replaced. Nothing is sent twice by that.
_TRIES: Final = 3
# Gateways send long policies and cookies. The library's 8 KiB would turn such an answer into an error.
_HEADER_MAX_BYTES: Final = 65_536
_STREAMS: Final = re.compile(rb'"stream"\s*:\s*true')
# The caller names its headers, and these are not to come from the library.
_NOT_OF_THE_LIBRARY: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
# Without this header a server may compress as it likes, and nothing here unpacks.
_PLAIN: Final = {"Accept-Encoding": "identity"}
# Errors of the time before anything of a request is written: looking the host up, connecting, TLS, a proxy's refusal.
_BEFORE_SENDING: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
# Text of the one error that the library raises before it writes to a connection that was closed. Its namesake from the
# middle of a body has another one. Should the text change, such a call counts as one that may have been sent.
_CLOSED_BEFORE: Final = "Cannot write to closing transport"


class AiohttpClient:
    """Implementation of `HttpClient`. One for each upstream and process, used in one event loop.

    `connect_timeout_s` is for looking the host up, connecting and TLS together. `silence_timeout_s` starts again with
    each byte of the answer; a large body must be sent and answered within both times together. Proxies are those of the
    environment (`HTTPS_PROXY`, `NO_PROXY`), as are certificate authorities (`SSL_CERT_FILE`, `SSL_CERT_DIR`; else the
    system's).
    """

    def __init__(
        self,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        silence_timeout_s: float = SILENCE_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._silence_timeout_s = silence_timeout_s
        self._tls = tls
        self._proxies: dict[str, str | None] = {}
        self._opened: dict[bool, aiohttp.ClientSession] = {}

    def _session(self, *, pooled: bool) -> aiohttp.ClientSession:
        """Return the session with or without a pool of connections, made in the loop that uses it."""
        if pooled not in self._opened:
            self._opened[pooled] = self._open(pooled)
        return self._opened[pooled]

    def _open(self, pooled: bool) -> aiohttp.ClientSession:
        kept: dict[str, Any] = {"keepalive_timeout": _IDLE_S} if pooled else {"force_close": True}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls or _tls(), **kept),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._connect_timeout_s, sock_read=self._silence_timeout_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_OF_THE_LIBRARY,
            auto_decompress=False,
            headers=_PLAIN,
            max_line_size=_HEADER_MAX_BYTES,
            max_field_size=_HEADER_MAX_BYTES,
        )

    # Each coroutine between a call and its connection takes memory for as long as a model works.

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Coroutine[Any, Any, HttpAnswer]:
        """Send a request once; see `HttpClient`."""
        return self._once("POST", url, headers, body)

    def get(self, url: str, headers: Mapping[str, str]) -> Coroutine[Any, Any, HttpAnswer]:
        """Ask for a resource once; see `HttpClient`."""
        return self._once("GET", url, headers, b"")

    async def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> HttpAnswer:
        for tries_left in reversed(range(_TRIES)):
            failure: HttpError
            try:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                call = self._call(method, url, headers, body)
                if len(body) <= _WRITTEN_AT_ONCE_BYTES:
                    return _AiohttpAnswer(await call, self._silence_timeout_s)
                # The library's own clock of silence begins when all is written, which a server can prevent for ever.
                async with asyncio.timeout(self._connect_timeout_s + self._silence_timeout_s):
                    return _AiohttpAnswer(await call, self._silence_timeout_s)
            except HttpError as error:
                failure = error
            except Exception as error:
                failure = _failure(error)
                if tries_left and _nothing_was_written(error):
                    continue
            # Raised outside the handler: the library's error, which holds the key, must not become its context.
            raise failure
        raise AssertionError("the last try ends by itself")

    async def aclose(self) -> None:
        """Close all connections."""
        for session in self._opened.values():
            await session.close()

    def _call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> Awaitable[aiohttp.ClientResponse]:
        """Return a request that is sent once it is awaited, until the head of its answer is there. Raises anything."""
        proxy = self._proxy_for(url)
        # llama.cpp closes the connection after a stream, unannounced: the next call on it would count as sent. A new
        # connection costs little where there is no TLS.
        pooled = not (url.startswith("http://") and _STREAMS.search(body))
        return self._session(pooled=pooled).request(
            method, url, data=body or None, headers=headers, allow_redirects=False, proxy=proxy
        )

    def _proxy_for(self, url: str) -> str | None:
        """Return the environment's proxy for a URL; it is looked up once for each, of which there are few."""
        if url not in self._proxies:
            server = _server_of(url)
            if server is None:
                raise NotSentError("nothing was sent: the address is not a URL")
            self._proxies[url] = environment_proxy(*server)
        return self._proxies[url]


class _AiohttpAnswer:
    """Implementation of `HttpAnswer`."""

    def __init__(self, response: aiohttp.ClientResponse, silence_s: float) -> None:
        self._response = response
        self._silence_s = silence_s
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.TimerHandle | None = None
        self._waits = False
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body's bytes as they come."""
        while chunk := await self._chunk():
            yield chunk

    async def feed(self, take: Take) -> bool:
        """Give the body's bytes to `take` as they come; see `HttpAnswer`."""
        if self._connected and not self._response.content.is_eof():
            return await FedBody(self._response, take, self._silence_s, _LOOK_S).ended()
        while piece := await self._chunk():
            if take(piece):
                return True
        return False

    async def aclose(self) -> None:
        """Give the connection back or close it; see `HttpAnswer`."""
        if self._looking is not None:
            self._looking.cancel()
        # A response that was read to its end has given its connection back before, and stays as it is.
        if self._response.connection is not None:
            self._response.close()

    async def _chunk(self) -> bytes:
        """Return the next bytes, none at the end. Raises `SentUnknownError`."""
        failure: SentUnknownError
        content = self._response.content
        self._waits = True
        if self._looking is None and not content.is_eof():
            self._looking = self._loop.call_later(_LOOK_S, self._look)
        try:
            chunk: bytes = await content.readany()
            return chunk
        except Exception as error:
            failure = body_failure(error)
        finally:
            self._waits = False
        raise failure

    @property
    def _connected(self) -> bool:
        """Return whether more of the body may come."""
        connection = self._response.connection
        return connection is not None and connection.transport is not None and not connection.transport.is_closing()

    def _look(self) -> None:
        """End the wait for a body of which nothing more can come.

        The library closes the connection when it can't read what came, and would let the reader of the body wait.
        """
        content = self._response.content
        if content.is_eof():
            return
        # A reader that does not wait has more to read first.
        if self._waits and not self._connected:
            content.set_exception(aiohttp.ClientPayloadError())
        else:
            self._looking = self._loop.call_later(_LOOK_S, self._look)


def environment_proxy(scheme: str, host: str, port: int | None) -> str | None:
    """Return the proxy that the environment names for a server, or None.

    `NO_PROXY` has names, suffixes and `*`, each also with a port. Raises `NotSentError` for another kind of proxy.
    """
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host) or (port is not None and proxy_bypass(f"{host}:{port}")):
        return None
    if not proxy.startswith(("http://", "https://")):
        raise NotSentError("nothing was sent: the environment names a proxy that is not an HTTP proxy")
    return proxy


def _server_of(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        return None


def _tls() -> ssl.SSLContext:
    if any(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")):
        return ssl.create_default_context()
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _failure(error: Exception) -> HttpError:
    """Return our error for one of the library's, or of its event loop."""
    name = type(error).__name__
    if isinstance(error, _BEFORE_SENDING) or _nothing_was_written(error):
        return NotSentError(f"nothing was sent: {name}{_reason(error)}")
    if isinstance(error, TimeoutError):
        return SilentServerError(f"the server fell silent: {name}")
    return SentUnknownError(f"the exchange broke off: {name}{_reason(error)}")


def _nothing_was_written(error: BaseException) -> bool:
    """Return whether a kept connection turned out to be closed before the first byte of the request was written.

    Head and body are written in one piece, so that it was none or, as far as is known, all.
    """
    reset = error if isinstance(error, aiohttp.ClientConnectionResetError) else error.__cause__
    return isinstance(reset, aiohttp.ClientConnectionResetError) and str(reset) == _CLOSED_BEFORE


def _reason(error: BaseException) -> str:
    """Return the names of the system's error and of the certificate's, if there are any: they quote nothing."""
    found = ""
    with suppress(Exception):
        cause: Any = getattr(error, "os_error", None) or error
        if isinstance(cause, ssl.SSLError):
            found = cause.reason or ""
        elif isinstance(cause, OSError) and cause.errno:
            found = os.strerror(cause.errno)
    return f" ({found})" if found else ""
