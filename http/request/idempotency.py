"""Idempotency keys: the identity of a request that is sent again."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

import msgspec
from pydantic import BaseModel
from starlette.requests import Request

from ...actors.domain import idempotency_keys
from ...actors.domain.behaviour import Attempt, Once
from ...actors.domain.credentials.caveats import Grant
from ..request_id import request_id_of
from ..response import errors
from . import ids

_NAME_BYTES: Final = 18
_DIGEST_CHARS: Final = 32
# The SDKs of both providers count their attempts in this header.
_RETRY_COUNT: Final = "x-stainless-retry-count"
_COUNT: Final = re.compile(r"[0-9]{1,4}")
# A stream's head is sent within half of an SDK's time-out. An SDK that is there for twice that long has the head; that
# it has left is known here a little later.
_SURELY: Final = 2
_KNOWN_AFTER_MS: Final = 1_000
# Headers that, with path and body, identify a call: its credential, and the headers that go on to the provider.
_OF_CALLS: Final = ("authorization", "x-api-key", "anthropic-version", "anthropic-beta")


def idempotency_key(request: Request) -> str | None:
    """Return the client's key, if it sent one. Raises `RefusedError`."""
    sent = request.headers.getlist("idempotency-key")
    if not sent:
        return None
    if len(sent) > 1 or not ids.is_idempotency_key(sent[0]):
        raise errors.invalid("Idempotency-Key", "Must be one key of 1 to 255 visible ASCII characters")
    return sent[0]


def operation_key_of(
    request: Request, key: str | None, asked: bytes | BaseModel, grant: Grant | None = None, path: str | None = None
) -> Once:
    """Derive the operation key of a request: from the client's key or, without one, from the request's id.

    `grant`: that of the credential, for operations that need one. `path`: that of the operation, if it has several.
    """
    if key is None:
        return Once(request_id_of(request.scope), "", keyed=False)
    operation = path or request.scope["route"].path
    name = hashlib.sha256(f"POST {operation}\n{key}".encode()).digest()[:_NAME_BYTES]
    digest = hashlib.sha256(_written_out(asked)).hexdigest()[:_DIGEST_CHARS]
    base = f"k{base64.urlsafe_b64encode(name).decode()}"
    return Once(base, digest, keyed=True) if grant is None else idempotency_keys.operation(grant, base, digest)


def attempt_of(
    request: Request,
    key: str | None,
    asked: bytes | BaseModel,
    path: str | None = None,
    *,
    head_after_s: float | None = None,
) -> Attempt | None:
    """Return an SDK's attempt at a call, by its number; None for other clients, and for a call with a key.

    An SDK that gives up waiting hangs up and sends the same request again, without a key, up to eight seconds later.
    `head_after_s`: of a stream, the time from the hold to its head.
    """
    number = request.headers.get(_RETRY_COUNT, "")
    if key is not None or not _COUNT.fullmatch(number):
        return None
    named = [request.headers.getlist(name) for name in _OF_CALLS]
    head = msgspec.json.encode([path or request.scope["route"].path, request.url.query, named])
    digest = hashlib.sha256(b"%b\n%b" % (head, _written_out(asked))).hexdigest()[:_DIGEST_CHARS]
    return Attempt(
        digest, int(number), None if head_after_s is None else _KNOWN_AFTER_MS + int(_SURELY * head_after_s * 1_000)
    )


def _written_out(asked: bytes | BaseModel) -> bytes:
    """Encode a body that was read with all defaults, so that naming a field with its default changes nothing."""
    if isinstance(asked, bytes):
        return asked
    return msgspec.json.encode(asked.model_dump(mode="json", by_alias=True, exclude_none=True), order="sorted")
