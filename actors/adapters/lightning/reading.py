"""Answers of a Lightning node's HTTP API, as values: whatever is not what it should be is rubbish, and no answer."""

from __future__ import annotations

import re
from typing import Final, TypeVar

import msgspec

from ...domain.money import MoneyError, Msat
from ...ports import TransientError

_PAYMENT_HASH: Final = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


def is_payment_hash(text: str) -> bool:
    """Return whether a text is 32 bytes in lower-case hex, the way payment hashes are written here."""
    return _PAYMENT_HASH.fullmatch(text) is not None


def sane_msat(amount_msat: int) -> Msat:
    """Return an amount as the node reports it. Raises `TransientError` for an impossible one."""
    try:
        return Msat(amount_msat)
    except MoneyError:
        raise rubbish("an amount above all bitcoin") from None


def rubbish(what: str) -> TransientError:
    """Return the error for an answer that no node gives, such as a proxy's page while it restarts."""
    return TransientError(f"the Lightning node answered rubbish: {what}")


def read(body: bytes, kind: type[T]) -> T:
    """Return the answer as a value of this type. Raises `TransientError` when it is something else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise rubbish("not the expected JSON") from None
