"""Caveats that a macaroon's holder may append to narrow it, and the grant that remains under all of them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from ..errors import Code, Refusal
from ..money import MSAT_MAX, Msat
from .periods import Period

_CAVEAT: Final = re.compile(r"([a-z_]+) ?= ?(.*)")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_BUDGET: Final = re.compile(r"([0-9]{1,18})/(hour|day|week)")
_NAME: Final = re.compile(r"[\x20-\x7e]{1,64}")
# Each limit that can bind beside those before it has a count of its own in every request.
_SPEND_LIMITS_MAX: Final = 8
_TAG_BYTES: Final = 9
WHOLE: Final = "0"
"""The tag of a credential without caveats, from which all others of its session are derived."""


class Action(StrEnum):
    """Actions that a credential can be used for. `llm` is the paths that speak other providers' protocols."""

    REQUEST = "request"
    READ = "read"
    TOPUP = "topup"
    CLOSE = "close"
    LLM = "llm"


class SpendLimit(msgspec.Struct, frozen=True):
    """A `max_msat` caveat, or a `max_msat_per` with its period. `counter` is the signature right after it in the chain.

    All credentials derived from this one have that signature in their chains too, and so share its count; a sibling
    with a caveat of the same text has another signature, and another count.
    """

    counter: str
    limit_msat: Msat
    period: Period | None = None

    @property
    def caveat(self) -> str:
        """The text of the caveat."""
        return limit_text(self.limit_msat, self.period)

    def bounds(self, later: SpendLimit) -> bool:
        """Return whether a limit that is appended after this one can never bind.

        All that counts towards it counts towards this one too, which is as low, and renews no sooner.
        """
        renews_later = self.period is None or (
            later.period is not None and self.period.length_ms >= later.period.length_ms
        )
        return renews_later and self.limit_msat <= later.limit_msat


class Grant(msgspec.Struct, frozen=True):
    """Permissions of a verified credential. Of a caveat that is repeated, the narrowest counts.

    spend_limits: those that can bind beside the ones before them, see `SpendLimit.bounds`. lineage: the tags of the
    credentials that this one was derived from, the whole one's first, and its own last.
    """

    generation: int
    spend_limits: tuple[SpendLimit, ...] = ()
    max_msat_per_request: Msat | None = None
    expires_at_s: int | None = None
    actions: frozenset[Action] | None = None
    spender: str | None = None
    lineage: tuple[str, ...] = (WHOLE,)

    def refusal(self, action: Action, now_ms: int) -> Refusal | None:
        """Return why the credential can't be used for this action now, or None if it can."""
        if self.expires_at_s is not None and now_ms >= self.expires_at_s * 1_000:
            return violated(f"expires_at = {self.expires_at_s}", "This credential has expired.")
        if self.actions is not None and action not in self.actions:
            allowed = ",".join(sorted(self.actions))
            return violated(f"actions = {allowed}", f"This credential does not allow the action {action}.")
        return None


class CaveatError(Exception):
    """Error for a caveat that makes the whole credential unusable. The text is a sentence for its holder."""

    def __init__(self, caveat: str, message: str) -> None:
        super().__init__(message)
        self.caveat = caveat


class UnknownCaveatError(CaveatError):
    """Error for a caveat that we don't know: skipping it could widen what its author meant to narrow."""

    def __init__(self, caveat: str) -> None:
        super().__init__(caveat, "This credential has a caveat that is not known here.")


def limit_text(limit_msat: Msat, period: Period | None) -> str:
    """Return a spend limit as its caveat says it."""
    if period is None:
        return f"max_msat = {limit_msat.value}"
    return f"max_msat_per = {limit_msat.value}/{period.value}"


def violated(caveat: str, message: str) -> Refusal:
    """Refuse a command that a caveat forbids."""
    return Refusal(Code.CAVEAT_VIOLATED, message, {"caveat": caveat})


def narrow(grant: Grant, caveat: bytes, counter: str) -> Grant:
    """Return the grant under one more caveat. `counter` is the signature after it. Raises `CaveatError`."""
    try:
        text = caveat.decode("ascii")
    except UnicodeDecodeError:
        raise UnknownCaveatError("not readable") from None
    match = _CAVEAT.fullmatch(text)
    if match is None:
        raise UnknownCaveatError(text[:100])
    grant = msgspec.structs.replace(grant, lineage=(*grant.lineage, _tag(counter)))
    name, value = match.groups()
    match name:
        case "max_msat":
            return _limited(grant, text, SpendLimit(counter, _msat(text, value)))
        case "max_msat_per" if (budget := _BUDGET.fullmatch(value)) is not None:
            return _limited(grant, text, SpendLimit(counter, _msat(text, budget[1]), Period(budget[2])))
        case "max_msat_per_request":
            lowest = _lowest(grant.max_msat_per_request, _msat(text, value))
            return msgspec.structs.replace(grant, max_msat_per_request=lowest)
        case "expires_at":
            expires_at_s = _number(text, value)
            earliest = expires_at_s if grant.expires_at_s is None else min(grant.expires_at_s, expires_at_s)
            return msgspec.structs.replace(grant, expires_at_s=earliest)
        case "actions":
            allowed = _actions(text, value)
            # An empty set is a narrowing too: two lists without a common action leave none.
            both = allowed if grant.actions is None else allowed & grant.actions
            return msgspec.structs.replace(grant, actions=both)
        case "name" if _NAME.fullmatch(value):
            # A sub-agent may name its own sub-agents, but not rename itself.
            spender = value if grant.spender is None else f"{grant.spender}/{value}"
            return msgspec.structs.replace(grant, spender=spender)
    raise UnknownCaveatError(text[:100])


def narrow_all(grant: Grant, caveats: Sequence[tuple[bytes, str]]) -> Grant:
    """Return the grant under all caveats, each with the signature after it. Raises `CaveatError`."""
    for caveat, counter in caveats:
        grant = narrow(grant, caveat, counter)
    return grant


def _limited(grant: Grant, text: str, limit: SpendLimit) -> Grant:
    if any(earlier.bounds(limit) for earlier in grant.spend_limits):
        return grant
    if len(grant.spend_limits) == _SPEND_LIMITS_MAX:
        raise CaveatError(
            text,
            f"A credential can have at most {_SPEND_LIMITS_MAX} caveats max_msat and max_msat_per that are narrower "
            "than those before them.",
        )
    return msgspec.structs.replace(grant, spend_limits=(*grant.spend_limits, limit))


def _tag(signature: str) -> str:
    """Digest a signature into a tag that is unique in the session; the signature itself would serve as a macaroon."""
    return base64.urlsafe_b64encode(hashlib.sha256(signature.encode()).digest()[:_TAG_BYTES]).decode()


def _actions(text: str, value: str) -> frozenset[Action]:
    try:
        return frozenset(Action(part.strip()) for part in value.split(","))
    except ValueError:
        raise UnknownCaveatError(text[:100]) from None


def _number(text: str, value: str) -> int:
    if not _NUMBER.fullmatch(value):
        raise UnknownCaveatError(text[:100])
    return int(value)


def _msat(text: str, value: str) -> Msat:
    # A limit above all bitcoin can't bind. It must not be an error, because its author meant to allow the spending.
    return Msat(min(_number(text, value), MSAT_MAX))


def _lowest(one: Msat | None, other: Msat) -> Msat:
    return other if one is None else min(one, other)
