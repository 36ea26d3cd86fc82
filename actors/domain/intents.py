"""What actors want done outside: invoices, look-ups and model calls. The host's effects carry them out."""

from __future__ import annotations

from collections.abc import Mapping

from .behaviour import Attempt, Command, Intent, Once
from .llm.answers import Held
from .llm.relays import RelayBody
from .payments.payouts import PayoutTarget


class IssueInvoice(Intent, frozen=True):
    """Make an invoice; the result is an `Invoice`. `context` is the command that asked for it, if one did.

    With `ahead` one that was made before anybody asked does as well: the same is ordered for every actor. With
    `for_work` it is not made while the model can't do the work that it is for.
    """

    amount_sats: int
    memo: str
    expiry_s: int
    actor_id: str
    context: Command | None = None
    ahead: bool = False
    for_work: bool = False


class LookUpInvoice(Intent, frozen=True):
    """Ask the node whether an invoice was paid; the result is a `Settlement` or None. Repeated until it answers."""

    payment_hash: str

    @property
    def free_to_repeat(self) -> bool:
        """It only asks, perhaps for hours."""
        return True


class Evaluate(Intent, frozen=True):
    """Have a request judged; the result is a `PricedEvaluation`."""

    request: str


class Work(Intent, frozen=True):
    """Have the model answer; the result is a `Completion`. `unpaid`: it is for whoever waits for it, and else for none.

    Left, its result is None.
    """

    request: str
    model: str
    max_tokens: int
    unpaid: bool = False

    @property
    def ends_unheard(self) -> bool:
        """What was paid for is done whether anybody waits or not."""
        return self.unpaid


class ReleaseUnpaid(Intent, frozen=True):
    """Take a paid invoice off its maker's count of unpaid ones. Best effort: the count also lapses by itself."""

    client: str
    actor_id: str


class SendPayout(Intent, frozen=True):
    """Pay an invoice of the client's; the result is a `PayoutReport`. Sent once, and not after `send_before_ms`."""

    target: PayoutTarget
    actor_id: str
    send_before_ms: int


class LookUpPayout(Intent, frozen=True):
    """Ask the node until its word is final; the result is a `PayoutReport`, see `paying_out.verdict`.

    Before `failure_final_at_ms` neither "failed" nor "never heard of it" is final. `received_hash` is of money that
    came in for the actor: a wallet that does not know it is not the one that was to pay.
    """

    target: PayoutTarget
    actor_id: str
    failure_final_at_ms: int
    received_hash: str | None = None

    @property
    def free_to_repeat(self) -> bool:
        """It only asks, perhaps for hours."""
        return True


class AnswerRequest(Intent, frozen=True):
    """Evaluate a session's request and, if it is accepted, have the model answer; the result is a `RequestOutcome`.

    With `stream`, whoever waits for the intent's key gets the text as it comes. `once`: which operation it is; under a
    key of the client's its answer can be asked for again. `attempt`: a library sent it, which may send it again.
    `held`: what is said to begin with.
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
        """The answer is for nobody then, unless a key promises it."""
        return self.stream or not self.once.keyed

    @property
    def lives_on_ms(self) -> int:
        """Until the library that gave it up has sent it again."""
        return 0 if self.attempt is None else self.attempt.next_within_ms


class RelayRequest(Intent, frozen=True):
    """Pass a call on to the model's provider as it is; the result is a `RelayOutcome`. For the rest see above.

    `beta`: the call goes to the provider's beta interface. `model` is the one that it is priced as. `body` is what the
    client sent; it goes on with this `max_tokens`. `at_ms`: when it was asked for. `billed_as`: see `Relay`.
    `prompt_tokens`: the provider's count of the prompt, where it was asked for before.
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

    @property
    def ends_unheard(self) -> bool:
        """As `AnswerRequest`."""
        return self.stream or not self.once.keyed

    @property
    def lives_on_ms(self) -> int:
        """As `AnswerRequest`."""
        return 0 if self.attempt is None else self.attempt.next_within_ms


class CountPrompt(Intent, frozen=True):
    """Have the provider count a prompt; the result is a `RelayEnd`."""

    body: bytes
    headers: Mapping[str, str]
    beta: bool

    @property
    def free_to_repeat(self) -> bool:
        """It only asks."""
        return True
