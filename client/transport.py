"""Transport: translation between this client's requests and httpx's."""

from __future__ import annotations

from typing import Final

import httpx

from .flow import Lost, Reply, Request

# Errors that are raised before anything has reached the server.
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


def timeouts(timeout_s: float, connect_timeout_s: float) -> httpx.Timeout:
    """Return httpx's time-outs. `timeout_s` is the longest silence while an answer is awaited. Raises `ValueError`."""
    if timeout_s <= 0 or connect_timeout_s <= 0:
        raise ValueError("a time-out must be more than 0")
    return httpx.Timeout(timeout_s, connect=connect_timeout_s)


def http_request(http: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
    """Return the request as httpx sends it."""
    return http.build_request(request.method, request.url, headers=dict(request.headers), content=request.body)


def reply_of(response: httpx.Response, body: bytes | None = None) -> Reply:
    """Return the answer. The response's body must have been read, unless one is given."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.content if body is None else body)


def lost(error: httpx.HTTPError) -> Lost:
    """Return the loss for an error, with only its kind: its text may contain a proxy's password."""
    return Lost(type(error).__name__, sent=not isinstance(error, _NOT_SENT))
