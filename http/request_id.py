"""Id of an HTTP request: in its answer, its log lines, and the reports of clients."""

from __future__ import annotations

import secrets
from typing import Final

from starlette.types import Scope

_REQUEST_ID_BYTES: Final = 16
_REQUEST_ID: Final = "satmeter.request_id"


def new_request_id() -> str:
    """Return an id for one HTTP request, by which a person can report it to the operator."""
    return f"req_{secrets.token_urlsafe(_REQUEST_ID_BYTES)}"


def request_id_of(scope: Scope) -> str:
    """Return the id that this request's answer and log lines carry."""
    request_id: str = scope[_REQUEST_ID]
    return request_id


def give_request_id(scope: Scope) -> str:
    """Give the request an id, and return it."""
    request_id = scope[_REQUEST_ID] = new_request_id()
    return request_id
