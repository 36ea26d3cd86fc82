"""Idempotency keys: what makes a request the same one when it is sent again."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import msgspec
from pydantic import BaseModel
from starlette.requests import Request

from ..actors.domain.behaviour import Once
from . import errors, ids
from .edge import request_id_of

_NAME_BYTES: Final = 18
_DIGEST_CHARS: Final = 32


def idempotency_key(request: Request) -> str | None:
    """The client's key, if it sent one. Raises `RefusedError`."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not ids.is_idempotency_key(keys[0]):
        raise errors.invalid("Idempotency-Key", "Must be one key of 1 to 255 visible ASCII characters")
    return keys[0]


def once_of(request: Request, key: str | None, body: BaseModel, path: str | None = None) -> Once:
    """Which operation of the actor in the path this is: by the client's key, else one of its own.

    `path`: that of the operation, where the request may come by another one as well.
    """
    # Written out with all defaults: a field that is named with its default changes nothing.
    asked = msgspec.json.encode(body.model_dump(mode="json", by_alias=True, exclude_none=True), order="sorted")
    return once_of_bytes(request, key, asked, path)


def once_of_bytes(request: Request, key: str | None, asked: bytes, path: str | None = None) -> Once:
    """The same for what was asked in whatever form."""
    if key is None:
        return Once(request_id_of(request.scope), "", keyed=False)
    operation = path or request.scope["route"].path
    name = hashlib.sha256(f"POST {operation}\n{key}".encode()).digest()[:_NAME_BYTES]
    digest = hashlib.sha256(asked).hexdigest()[:_DIGEST_CHARS]
    return Once(f"k{base64.urlsafe_b64encode(name).decode()}", digest, keyed=True)
