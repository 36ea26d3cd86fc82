"""Turn of an actor: some commands of its mailbox, decided upon together, and what follows once it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from ..domain.behaviour import Attempt, Command, Decision, Event, Mark, Once
from ..domain.errors import Refusal
from ..domain.payments.invoices import Settle
from .replies import ReplyTo


@dataclass(slots=True, eq=False)
class Envelope:
    """Command in a mailbox. `reply_to` is None for the host's own wakes and outcomes, which no caller waits for.

    `resent`: another host may have carried it out already. `kept`: the answers that the store holds under the names
    that its answer may be kept under. `refused`: the caller got a refusal that says that nothing came of it, while its
    write was not confirmed. `request_id`: the HTTP request that it came of, for logs, or "".
    `traceparent`: its span, or "".
    """

    command: Command
    reply_to: ReplyTo | None
    arrived_s: float
    resent: bool = False
    kept: Mapping[str, bytes] = field(default_factory=dict)
    refused: bool = False
    request_id: str = ""
    traceparent: str = ""
    stands_for_another: bool = False

    @property
    def repeats(self) -> Attempt | None:
        """Return the attempt of a client's library that sends this again; None once its original is known."""
        attempt = self.command.attempt
        return attempt if attempt is not None and attempt.number and not self.stands_for_another else None

    def stand_for(self, once: Once) -> None:
        """Make the command the same operation as the one that it repeats."""
        self.command = replace(self.command, once=once)
        self.resent = self.stands_for_another = True

    @property
    def done_once(self) -> Once | None:
        """Return the operation whose answer may be kept already; None for one that can't have been sent before."""
        once = self.command.once
        return once if once is not None and self.reply_to and (once.keyed or self.resent) else None


@dataclass(slots=True)
class Turn:
    """Result of a run over the mailbox: the new state, and the answers and intents that follow once it is written.

    `took_ms`: the time of its write. `sums`: what its events add to the operator's figures.
    """

    state: Any
    events: list[Event] = field(default_factory=list)
    marks: dict[str, Mark] = field(default_factory=dict)
    outcomes: list[tuple[Envelope, Decision]] = field(default_factory=list)
    opening: Event | None = None
    took_ms: float = 0.0
    sums: Mapping[str, int] = field(default_factory=dict)

    @property
    def denies_a_payment(self) -> bool:
        """Return whether the turn says that a payment is not the actor's.

        The payment would then be unowned, and would not be delivered again.
        """
        return any(isinstance(e.command, Settle) and isinstance(d.reply, Refusal) for e, d in self.outcomes)


def first_of(attempt: Attempt, envelopes: Sequence[Envelope]) -> Once | None:
    """Return the same operation among commands that are decided upon together."""
    for envelope in envelopes:
        other = envelope.command.attempt
        if other is not None and other.digest == attempt.digest:
            return envelope.command.once
    return None
