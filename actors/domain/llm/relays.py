"""A model call in the provider's own protocol that is passed on as it is: what is known of it, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from ..behaviour import Reply
from ..pricing import Usage
from .answers import Ending


class PromptRate(StrEnum):
    """The dearest rate at which a prompt may be billed: a cache write costs more than plain input."""

    INPUT = "input"
    CACHE_WRITE_5M = "cache_write_5m"
    CACHE_WRITE_1H = "cache_write_1h"


class RelayBody(msgspec.Struct, frozen=True):
    """The JSON that goes to the provider, and where in it the number stands that we may lower.

    `data[start:end]` is the value of `max_tokens`; all other bytes go on as they came.
    """

    data: bytes
    max_tokens: int
    start: int
    end: int

    def lowered(self, max_tokens: int) -> bytes:
        """The body with this `max_tokens`; to the byte what was sent, when it is the same."""
        if max_tokens == self.max_tokens:
            return self.data
        return b"%b%d%b" % (self.data[: self.start], max_tokens, self.data[self.end :])


# What the provider's count of a prompt takes of a call. It refuses all else (source: its API reference).
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
    """The body of a call as one that asks for the count of its prompt. Raises `msgspec.DecodeError`."""
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({name: value for name, value in members.items() if name in _COUNTED})


def model_of(body: bytes) -> str | None:
    """The model that a call names, which may be a dated version of the one that has its price."""
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (ValueError, RecursionError):
        return None


# What a provider gives, in this order; a whole answer is only an end


class RelayBegun(msgspec.Struct, frozen=True):
    """A streamed answer begins, with these headers."""

    headers: Mapping[str, str]


class RelaySoFar(msgspec.Struct, frozen=True):
    """What was counted of a streamed answer until now, and what was given of it since the last of these.

    `usage` is None before the provider has counted anything that can be read. `unseen_tokens` are those that thoughts
    have beyond what was shown of them, as estimated. `thinks`: it is at a thought that it may not show. `final`: the
    provider has counted the whole answer in `usage`. `pauses`: a block has ended, and no other has begun.
    """

    usage: Usage | None
    given: str = ""
    unseen_tokens: int = 0
    thinks: bool = False
    final: bool = False
    pauses: bool = False


class RelayEnd(msgspec.Struct, frozen=True):
    """The end of an answer; `body` is the whole one, and empty for a streamed one.

    `usage` is None when the provider's figures of the prompt were unreadable; `given_tokens` are then those of the
    answer, as the provider counted them, or an estimate. A status from 400 on is a refusal of what the client
    sent, for which the provider bills nothing.
    `declined`: the model refused without any output, which it does not bill, either.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    usage: Usage | None
    given_tokens: int = 0
    declined: bool = False

    @property
    def counted(self) -> int | None:
        """The tokens that were counted, of an answer that is a count."""
        try:
            return max(0, msgspec.json.decode(self.body, type=_Count).input_tokens) if self.status == 200 else None
        except (ValueError, RecursionError):
            return None


class RelayHead(Reply, frozen=True, tag="relay_head"):
    """A streamed answer begins. `max_tokens`: what the balance covers, at most what was asked; `at_ms`: when."""

    status: int
    headers: Mapping[str, str]
    max_tokens: int
    at_ms: int


class RelayBytes(Reply, frozen=True, tag="relay_bytes"):
    """The next bytes of a streamed answer, as the provider sent them."""

    data: bytes


RelayPart = RelayBegun | RelayBytes | RelaySoFar | RelayEnd
"""What a provider gives of an answer; exactly one `RelayEnd` ends it."""


class RelayOutcome(msgspec.Struct, frozen=True):
    """What came of a relayed call. `body` is all that was given, streamed or not.

    `charged`: the provider bills it. It does so for the prompt of a call that was sent and whose client then left.

    `told`: it broke off, and the provider's own event, which is in the body, says so.
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
