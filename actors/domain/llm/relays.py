"""Relays: model calls in the provider's own protocol that are passed on as they are, with their parts and outcomes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from ..behaviour import Reply
from ..pricing import Usage
from .answers import Ending, Served
from .reported_usage import ReportedUsage


class PromptRate(StrEnum):
    """The dearest rate at which a prompt may be billed: a cache write costs more than plain input."""

    INPUT = "input"
    CACHE_WRITE_5M = "cache_write_5m"
    CACHE_WRITE_1H = "cache_write_1h"


class RelayBody(msgspec.Struct, frozen=True):
    """The JSON that goes to the provider, and the position in it of the number that we may lower.

    `data[start:end]` is the value of `max_tokens`; all other bytes go on as they came. `choices`: the number of answers
    that the call asks for, each of which may have `max_tokens`. `sent_sha256`: the digest of the bytes that the client
    sent; empty where they are `data`.
    """

    data: bytes
    max_tokens: int
    start: int
    end: int
    choices: int = 1
    sent_sha256: bytes = b""

    def made_of(self, sent: bytes) -> RelayBody:
        """Return the body with the digest of what the client sent, which alone the client knows for its receipt."""
        return self if sent == self.data else replace(self, sent_sha256=hashlib.sha256(sent).digest())

    @property
    def digest(self) -> bytes:
        """SHA-256 of what the client sent."""
        return self.sent_sha256 or hashlib.sha256(self.data).digest()

    def lowered(self, max_tokens: int) -> bytes:
        """Return the body with this `max_tokens`; unchanged to the byte when it is the same."""
        if max_tokens == self.max_tokens:
            return self.data
        return b"%b%d%b" % (self.data[: self.start], max_tokens, self.data[self.end :])


# Members of a call that the provider takes when it counts a prompt. It refuses others (source: its API reference).
_COUNTED: Final = frozenset(
    {
        "cache_control", "compaction", "context_management", "mcp_servers", "messages", "model", "output_config",
        "speed", "system", "thinking", "tool_choice", "tools",
    }
)  # fmt: skip


class _Named(msgspec.Struct):
    model: str


class _Count(msgspec.Struct):
    input_tokens: int


def countable(body: bytes) -> bytes:
    """Turn a call's body into one that asks for the count of its prompt.

    Raises `ValueError` for one that is not a JSON object, or is nested too deeply.
    """
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        return msgspec.json.encode({name: value for name, value in members.items() if name in _COUNTED})
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        return _countable_slowly(body)


def _countable_slowly(body: bytes) -> bytes:
    """Do the same for a body with an escaped half of a character, which msgspec does not read."""
    try:
        members = json.loads(body)
        if not isinstance(members, dict):
            raise ValueError("not an object")
        return json.dumps({name: value for name, value in members.items() if name in _COUNTED}).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def model_of(body: bytes) -> str | None:
    """Return the model that a call names, which may be a dated version of the one that has its price."""
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (ValueError, RecursionError):
        return None


# Parts of a provider's answer, in this order; an answer that is not streamed is only an end


class RelayBegun(msgspec.Struct, frozen=True):
    """The beginning of a streamed answer, with its headers."""

    headers: Mapping[str, str]


class RelaySoFar(msgspec.Struct, frozen=True):
    """The count of a streamed answer until now, and the text that was given since the last count.

    `usage` is None before the provider has counted anything that can be read. `unseen_tokens` are the estimated tokens
    of thoughts beyond what was shown of them. `thinks`: the model is at a thought that it may not show. `final`: the
    provider has counted the whole answer in `usage`. `pauses`: a block has ended, and no other has begun.
    `counts_last`: the provider counts nothing before the answer's end.
    """

    usage: Usage | None
    given: str = ""
    unseen_tokens: int = 0
    thinks: bool = False
    final: bool = False
    pauses: bool = False
    reported: ReportedUsage | None = None
    counts_last: bool = False


class RelayEnd(msgspec.Struct, frozen=True):
    """The end of an answer; `body` is the whole one, and empty for a streamed one.

    `usage` is None when the provider's figures of the prompt were unreadable; `given_tokens` are then the answer's
    tokens, by the provider's count or an estimate. A status from 400 on is a refusal of the client's call, for which
    the provider bills nothing. `declined`: the model refused without any output, which the provider does not bill
    either. `given_bytes` is the size of what was given, where there is no usage.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    usage: Usage | None
    given_tokens: int = 0
    declined: bool = False
    reported: ReportedUsage | None = None
    given_bytes: int = 0

    @property
    def counted(self) -> int | None:
        """Token count, if the answer is the result of a count; else None."""
        try:
            return max(0, msgspec.json.decode(self.body, type=_Count).input_tokens) if self.status == 200 else None
        except (ValueError, RecursionError):
            return None


class RelayHead(Reply, frozen=True, tag="relay_head"):
    """The beginning of a streamed answer.

    `max_tokens`: as many as the balance covers, at most those asked for; `at_ms`: the time of the request.
    """

    status: int
    headers: Mapping[str, str]
    max_tokens: int
    at_ms: int


class RelayBytes(Reply, frozen=True, tag="relay_bytes"):
    """The next bytes of a streamed answer, as the provider sent them."""

    data: bytes


RelayPart = Served | RelayBegun | RelayBytes | RelaySoFar | RelayEnd
"""Part of a provider's answer; exactly one `RelayEnd` ends it."""
Give = Callable[[RelayBytes, RelaySoFar], None]
"""Taker of the next bytes of a stream, with the count after them. What it raises ends the call."""


class RelayOutcome(msgspec.Struct, frozen=True):
    """The outcome of a relayed call. `body` is the whole answer as far as it came, streamed or not.

    `charged`: the provider bills the call. It bills the prompt of a call that was sent and whose client then left.

    `told`: the answer broke off, and the provider's own event in the body says so. `prompt_estimate`: the tokens of a
    prompt that was not counted, where its text says more of them than the hold's estimate.
    """

    ending: Ending
    streamed: bool
    status: int
    headers: Mapping[str, str]
    body: bytes
    charged: bool
    usage: Usage | None = None
    given_tokens: int = 0
    told: bool = False
    reported: ReportedUsage | None = None
    given_bytes: int = 0
    prompt_estimate: int | None = None
