"""Actions of the client as values, and the rules for repeating lost requests.

All logic is in flows: generators that yield an action and are sent its outcome. They do no I/O and know no clock, so
that `Satmeter` and `AsyncSatmeter` share one implementation, and tests can play any fault to it. Only the two drivers
perform actions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from ..actors.domain.backoff import pause_after
from ..actors.domain.errors import RETRY_ACTION, RetryAction
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
    """An answer to a request. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def retry_after_s(self) -> float | None:
        """The seconds that the server asks to wait, if it does."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


@dataclass(frozen=True, slots=True)
class Lost:
    """A lost answer. `sent`: the request may have been carried out."""

    reason: str
    sent: bool


@dataclass(frozen=True, slots=True)
class Send:
    """The action to send a request. Outcome: `Reply` or `Lost`."""

    request: Request


@dataclass(frozen=True, slots=True)
class OpenStream:
    """The action to send a request whose answer, if it is a stream of events, is read in pieces. Outcome: as `Send`."""

    request: Request


@dataclass(frozen=True, slots=True)
class ReadStream:
    """The action to read the next bytes of the stream. Outcome: bytes, None at its end, or `Lost`."""


@dataclass(frozen=True, slots=True)
class Emit:
    """The action to pass a piece of text to the reader of the stream. Outcome: None."""

    text: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """The action to wait. Outcome: None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Now:
    """The action to read the clock. Outcome: the Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class Invoke:
    """The action to call a user's function, or coroutine function of an asynchronous client. Outcome: its result."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Exclusive:
    """The action to run a flow while no other exclusive flow of this client runs. Outcome: its result."""

    flow: Flow[Any]


Action = Send | OpenStream | ReadStream | Emit | Sleep | Now | Invoke | Exclusive


@dataclass(frozen=True, slots=True)
class Retries:
    """The limits of retries. If a server asks for a longer wait than is left, the request is not sent again.

    `attempts_max` includes the first attempt; `total_s` bounds the sum of the waits between attempts.
    """

    attempts_max: int = 6
    total_s: float = 45.0

    def __post_init__(self) -> None:
        if self.attempts_max < 1 or self.total_s < 0:
            raise ValueError("attempts_max must be at least 1 and total_s must not be negative")


def deliver(request: Request, retries: Retries, again: Collection[int] = UNAVAILABLE) -> Flow[Reply]:
    """Send a request until it is answered. It must be safe to repeat, by its Idempotency-Key or by its nature.

    The request is repeated after a lost answer, and after a status of `again`. It is also repeated after a gateway's
    own 502, 503 or 504, which means that the server behind it did not answer. Raises `NoAnswerError`.
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
    """Return the seconds to wait before the request is sent again, or None if it should not be."""
    backoff_s = pause_after(attempt - 1, _BACKOFF_FIRST_S, _BACKOFF_MAX_S)
    # Random waits keep clients that lost the same server from coming back at the same moment.
    backoff_s *= random.uniform(0.75, 1.25)  # noqa: S311 - no secret depends on it
    if isinstance(outcome, Lost) or is_gateways(outcome):
        return backoff_s
    if outcome.status in again and not _is_final(outcome):
        return outcome.retry_after_s if outcome.retry_after_s is not None else backoff_s
    return None


class _Advice(msgspec.Struct, frozen=True):
    retry_action: Any = msgspec.field(default=None, name=RETRY_ACTION)


def _is_final(reply: Reply) -> bool:
    """Return True for an answer that says that the same would fail again, or that a person must decide."""
    try:
        advice = msgspec.json.decode(reply.body, type=_Advice)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return advice.retry_action in (RetryAction.STOP, RetryAction.ASK_A_PERSON)


def is_gateways(reply: Reply) -> bool:
    """Return True for the error of a proxy without an answer from the server, whose own errors are JSON."""
    return reply.status in (502, 503, 504) and "json" not in reply.headers.get("content-type", "")


def wait_until(condition: Callable[[], Flow[bool]], timeout_s: float, every_s: float = 0.25) -> Flow[bool]:
    """Check the condition until it holds; False after `timeout_s`. The checks get rarer, up to every 2 s."""
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
