"""What this client wants done outside, as values, and the rules for repeating what got lost.

All logic is in flows: generators that yield an action and are sent its outcome. They do no I/O and know no clock, so
that one text serves `Satmeter` and `AsyncSatmeter`, and tests can play any fault to it. Only the two shells perform
actions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from .errors import NoAnswerError

T = TypeVar("T")
Flow = Generator["Action", Any, T]
"""Yields actions, is sent their outcomes, and returns its result."""

UNAVAILABLE: Final = frozenset({429, 503})
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_MAX_S: Final = 8.0


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Headers may hold a credential: they are left out of the repr."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to one. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def retry_after_s(self) -> float | None:
        """How long the server asks to wait."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer. `sent`: the request may have been carried out."""

    reason: str
    sent: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Sends a request. Outcome: `Reply` or `Lost`."""

    request: Request


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Sends a request whose answer is read in pieces, if it is a stream of events. Outcome: `Reply` or `Lost`."""

    request: Request


@dataclass(frozen=True, slots=True)
class ReadStream:
    """The next bytes of it. Outcome: bytes, None at its end, or `Lost`."""


@dataclass(frozen=True, slots=True)
class Emit:
    """A piece of text for whoever reads along. Outcome: None."""

    text: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """Waits. Outcome: None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Now:
    """Outcome: the Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class Invoke:
    """Calls a function of the user's, a coroutine function perhaps in the asynchronous client. Outcome: its result."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Runs a flow while no other exclusive one of this client runs. Outcome: its result."""

    flow: Flow[Any]


Action = Send | OpenStream | ReadStream | Emit | Sleep | Now | Invoke | Exclusive


@dataclass(frozen=True, slots=True)
class Retries:
    """How long a request is sent again. A server that asks for a longer wait than is left is not waited for.

    `attempts_max` counts the first one; `total_s` bounds all the waiting between attempts.
    """

    attempts_max: int = 6
    total_s: float = 45.0

    def __post_init__(self) -> None:
        if self.attempts_max < 1 or self.total_s < 0:
            raise ValueError("attempts_max must be at least 1 and total_s must not be negative")


def deliver(request: Request, retries: Retries, again: Collection[int] = UNAVAILABLE) -> Flow[Reply]:
    """The answer to a request that may be sent more than once, as its Idempotency-Key or its nature makes it the same.

    Lost answers, and statuses of `again`, are sent for again; so are a gateway's own 502 and 504, which say that the
    server behind it did not answer. Raises `NoAnswerError`.
    """
    waited_s, attempt = 0.0, 0
    while True:
        attempt += 1
        outcome: Reply | Lost = yield Send(request)
        wait_s = pause_s(outcome, attempt, again)
        if wait_s is None or attempt == retries.attempts_max or waited_s + wait_s > retries.total_s:
            break
        yield Sleep(wait_s)
        waited_s += wait_s
    if isinstance(outcome, Lost):
        raise NoAnswerError(f"{_place(request)} gives no answer after {attempt} attempts: {outcome.reason}")
    return outcome


def pause_s(outcome: Reply | Lost, attempt: int, again: Collection[int] = UNAVAILABLE) -> float | None:
    """How long to wait before a request with this outcome is sent again, None if it is not to be."""
    backoff_s = min(_BACKOFF_MAX_S, _BACKOFF_FIRST_S * float(1 << min(attempt - 1, 10)))
    # Clients that lost the same server must not all come back at the same moment.
    backoff_s *= random.uniform(0.75, 1.25)  # noqa: S311 - no secret depends on it
    if isinstance(outcome, Lost) or is_gateways(outcome):
        return backoff_s
    if outcome.status in again:
        return outcome.retry_after_s if outcome.retry_after_s is not None else backoff_s
    return None


def is_gateways(reply: Reply) -> bool:
    """Whether it is the word of a proxy that had no answer from the server; the server's own are JSON."""
    return reply.status in (502, 503, 504) and "json" not in reply.headers.get("content-type", "")


def wait_until(condition: Callable[[], Flow[bool]], timeout_s: float, every_s: float = 0.25) -> Flow[bool]:
    """Asks until it is so, or the time is over; then False. Asks rarer the longer it takes, up to every 2 s."""
    now_s: float = yield Now()
    deadline_s = now_s + timeout_s
    while True:
        if (yield from condition()):
            return True
        now_s = yield Now()
        if now_s >= deadline_s:
            return False
        yield Sleep(min(every_s, deadline_s - now_s))
        every_s = min(2.0, every_s * 1.3)


def _place(request: Request) -> str:
    return "/".join(request.url.split("/", 3)[:3])
