"""Facts of an HTTP request that the advice in its error depends on."""

from __future__ import annotations

from typing import Final, NamedTuple

from starlette.types import Scope

from .request_id import request_id_of

# One entry of the scope for both: see `FrontRouter`.
_MONEY: Final = "satmeter.money"
_RELIES: Final = 1
_PAID: Final = 2
_KEY: Final = b"idempotency-key"
_LENGTH: Final = b"content-length"
_DIGITS_MAX: Final = 20
REST_MAX_BYTES: Final = 8 * 1_048_576
"""Bytes of a refused body that are read and thrown away to keep its connection, or before it is refused.

Most clients look for an answer only once they have sent everything.
"""
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class RequestFacts(NamedTuple):
    """The request's id, and whether it has an Idempotency-Key, only reads, and relies on money that was paid before.

    long: its body has more bytes than are read of one that is refused, before the connection is given up.
    """

    request_id: str
    keyed: bool = False
    reads: bool = False
    pays: bool = False
    long: bool = False


def facts_of(scope: Scope) -> RequestFacts:
    """Return the facts of a request. Before its credential was read, it relies on no money."""
    keyed = any(name == _KEY for name, _ in scope["headers"])
    long = declared_length(scope) > REST_MAX_BYTES
    return RequestFacts(request_id_of(scope), keyed, scope["method"] in _READS, relies_on_money(scope), long)


def declared_length(scope: Scope) -> int:
    """Return the length that the request gives for its body; 0 if it gives none that can be read."""
    declared = next((value for name, value in scope["headers"] if name == _LENGTH), b"")
    return int(declared) if declared.isdigit() and len(declared) < _DIGITS_MAX else 0


def note_money(scope: Scope) -> None:
    """Note that the request relies on money that was paid before: a session's, or what a job owes."""
    _note(scope, _RELIES)


def relies_on_money(scope: Scope) -> bool:
    """Return True for a request that relies on money that was paid before, by its own word."""
    return bool(scope.get(_MONEY, 0) & _RELIES)


def note_paid(scope: Scope) -> None:
    """Note that money was set aside for the request: its credential is a paying client's."""
    _note(scope, _PAID)


def has_paid(scope: Scope) -> bool:
    """Return True if money was set aside for the request."""
    return bool(scope.get(_MONEY, 0) & _PAID)


def _note(scope: Scope, flag: int) -> None:
    scope[_MONEY] = scope.get(_MONEY, 0) | flag
