"""Idempotency keys: what makes a request the same one when it is sent again."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

import msgspec
from pydantic import BaseModel
from starlette.requests import Request

from ...actors.domain.behaviour import Attempt, Once
from ...actors.domain.credentials import idempotency_keys
from ...actors.domain.credentials.caveats import Grant
from ..middleware import request_id_of
from ..response import errors
from . import ids

_NAME_BYTES: Final = 18
_DIGEST_CHARS: Final = 32
# The SDKs of both providers count their attempts in it.
_RETRY_COUNT: Final = "x-stainless-retry-count"
_COUNT: Final = re.compile(r"[0-9]{1,4}")
# What besides path and body makes two calls the same one: whose they are, and what goes on to the provider.
_OF_CALLS: Final = ("authorization", "x-api-key", "anthropic-version", "anthropic-beta")


def idempotency_key(request: Request) -> str | None:
    """The client's key, if it sent one. Raises `RefusedError`."""
    sent = request.headers.getlist("idempotency-key")
    if not sent:
        return None
    if len(sent) > 1 or not ids.is_idempotency_key(sent[0]):
        raise errors.invalid("Idempotency-Key", "Must be one key of 1 to 255 visible ASCII characters")
    return sent[0]


def once_of(
    request: Request, key: str | None, body: BaseModel, grant: Grant | None = None, path: str | None = None
) -> Once:
    """Which operation of the actor in the path this is: by the client's key, else one of its own.

    `grant`: of the credential, where there are some. `path`: that of the operation, where the request may come by
    another one as well.
    """
    return once_of_bytes(request, key, _written_out(body), grant, path)


def once_of_bytes(
    request: Request, key: str | None, asked: bytes, grant: Grant | None, path: str | None = None
) -> Once:
    """The same for what was asked in whatever form."""
    if key is None:
        return Once(request_id_of(request.scope), "", keyed=False)
    operation = path or request.scope["route"].path
    name = hashlib.sha256(f"POST {operation}\n{key}".encode()).digest()[:_NAME_BYTES]
    digest = hashlib.sha256(asked).hexdigest()[:_DIGEST_CHARS]
    base = f"k{base64.urlsafe_b64encode(name).decode()}"
    return Once(base, digest, keyed=True) if grant is None else idempotency_keys.operation(grant, base, digest)


def attempt_of(request: Request, key: str | None, asked: bytes | BaseModel, path: str | None = None) -> Attempt | None:
    """Which of an SDK's attempts at the same call this is; None when no SDK sends it, or its client has a key for it.

    An SDK that gives up waiting hangs up and sends the same again, without a key, up to eight seconds later.
    """
    number = request.headers.get(_RETRY_COUNT, "")
    if key is not None or not _COUNT.fullmatch(number):
        return None
    body = asked if isinstance(asked, bytes) else _written_out(asked)
    named = [request.headers.getlist(name) for name in _OF_CALLS]
    head = msgspec.json.encode([path or request.scope["route"].path, request.url.query, named])
    digest = hashlib.sha256(b"%b\n%b" % (head, body)).hexdigest()[:_DIGEST_CHARS]
    return Attempt(digest, int(number))


def _written_out(body: BaseModel) -> bytes:
    """The body with all defaults: a field that is named with its default changes nothing."""
    return msgspec.json.encode(body.model_dump(mode="json", by_alias=True, exclude_none=True), order="sorted")
