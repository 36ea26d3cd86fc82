"""Intents of actors about the model: evaluations, work, answers, relayed calls. The host's effects carry them out."""

from __future__ import annotations

from collections.abc import Mapping

from ..behaviour import Attempt, Intent, Once
from ..pricing import Usage
from .answers import Held
from .relays import RelayBody


class Evaluate(Intent, frozen=True):
    """Have a request judged; the result is a `PricedEvaluation`."""

    request: str


class Work(Intent, frozen=True):
    """Have the model answer; the result is a `Completion`. `unpaid`: the answer is only for the caller that waits.

    If that caller leaves, the result is None.
    """

    request: str
    model: str
    max_tokens: int
    unpaid: bool = False

    @property
    def ends_unheard(self) -> bool:
        """True if the work is unpaid: paid work is done whether a caller waits or not."""
        return self.unpaid


class AnswerRequest(Intent, frozen=True):
    """Evaluate a session's request and, if it is accepted, have the model answer; the result is a `RequestOutcome`.

    With `stream`, callers that wait for the intent's key get the text as it comes. `once`: the operation's identity;
    under a key of its own the client can ask for the answer again. `attempt`: a library sent it, which may send it
    again. `held`: the reply that comes before the answer.
    """

    request: str
    model: str
    max_tokens: int
    stream: bool
    once: Once
    attempt: Attempt | None = None
    held: Held | None = None

    @property
    def ends_unheard(self) -> bool:
        """True if no client can come for the answer later: it streams, or has no key of the client's."""
        return self.stream or not self.once.keyed

    @property
    def lives_on_ms(self) -> int:
        """Time in ms until the library that gave the request up has sent it again; 0 without a library."""
        return 0 if self.attempt is None else self.attempt.next_within_ms


class RelayRequest(Intent, frozen=True):
    """Pass a call on to the model's provider as it is; the result is a `RelayOutcome`. See also `AnswerRequest`.

    `beta`: the call goes to the provider's beta interface. `model` sets the price. `body` is the client's, and goes on
    with this `max_tokens`. `at_ms`: the time of the request. `billed_as`: see `Relay`. `prompt_tokens`: the provider's
    count of the prompt, where it was asked for before. `bound`: the worst case that is held. `web_searches`: see
    `Relay`.
    """

    body: RelayBody
    headers: Mapping[str, str]
    beta: bool
    stream: bool
    model: str
    max_tokens: int
    at_ms: int
    once: Once
    billed_as: tuple[str, ...] = ()
    attempt: Attempt | None = None
    prompt_tokens: int | None = None
    held: Held | None = None
    bound: Usage | None = None
    web_searches: int = 0

    @property
    def ends_unheard(self) -> bool:
        """True under the conditions of `AnswerRequest`, but not for a call that may search.

        The provider tells its searches, and what it read of their results, only at the end, and bills them in any case.
        """
        return not self.web_searches and (self.stream or not self.once.keyed)

    @property
    def lives_on_ms(self) -> int:
        """Grace period in ms, as of `AnswerRequest`."""
        return 0 if self.attempt is None else self.attempt.next_within_ms


class CountPrompt(Intent, frozen=True):
    """Have the provider count a prompt; the result is a `RelayEnd`. `model` is the catalogue's."""

    body: bytes
    headers: Mapping[str, str]
    model: str
    beta: bool

    @property
    def free_to_repeat(self) -> bool:
        """True: the call only asks."""
        return True
