"""Webhooks: an actor's notices to an address of its client's, each at least once, and the attempts to deliver them.

A notice follows from events that the journal has anyway, so that nothing waits for it. Each attempt's end is journaled,
and the next attempt of a notice, if there is one, is a deadline of the actor like any other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from .behaviour import Done, Failed, Intent
from .money import ZERO, Msat
from .payments.payouts import LedgerEvent
from .timestamps import timestamp

_SECOND_MS: Final = 1_000
# Pauses after each failed attempt; the last attempt is made a day after the event.
_PAUSES_S: Final = (5, 30, 120, 600, 3_600, 14_400, 28_800, 38_400)
_ID_BYTES: Final = 18


class Webhook(msgspec.Struct, frozen=True, omit_defaults=True):
    """The address of an actor's notices. `low_balance_msat`: the threshold of a session, under which it is low."""

    url: str
    low_balance_msat: Msat = ZERO


class LimitNotice(msgspec.Struct, frozen=True, omit_defaults=True):
    """The spend limit that a notice tells of. `renews_ms`: its budget's next window, if it has one."""

    caveat: str
    spent_msat: int
    limit_msat: int
    spender: str | None = None
    renews_ms: int | None = None


class RefundNotice(msgspec.Struct, frozen=True, omit_defaults=True):
    """The payment to a refund's destination, or the failed try, that a notice tells of.

    amount_msat and payment_hash: of a payment. error: of a failed try, after which the next one is due at `next_ms`, 0
    after the last one. owed_msat: still owed after it.
    """

    owed_msat: int
    amount_msat: int = 0
    payment_hash: str = ""
    error: str = ""
    next_ms: int = 0


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A notice to be delivered. `attempts` have failed; the next one is due at `due_ms`."""

    number: int
    type: str
    at_ms: int
    due_ms: int
    attempts: int = 0
    remaining_msat: int = 0
    limit: LimitNotice | None = None
    refund: RefundNotice | None = None


class Outbox(msgspec.Struct, frozen=True, omit_defaults=True):
    """An actor's webhook, and the notices that were not delivered yet.

    count: notices so far. gone: the receiver wants no more. low: the balance was under its threshold when it was last
    checked; a new session's is.
    """

    webhook: Webhook
    notices: tuple[Notice, ...] = ()
    count: int = 0
    gone: bool = False
    low: bool = True

    def with_notice(
        self,
        kind: str,
        at_ms: int,
        remaining_msat: int = 0,
        limit: LimitNotice | None = None,
        refund: RefundNotice | None = None,
    ) -> Outbox:
        """Add a notice, unless the receiver wants no more."""
        if self.gone:
            return self
        notice = Notice(self.count, kind, at_ms, at_ms, remaining_msat=remaining_msat, limit=limit, refund=refund)
        return replace(self, notices=(*self.notices, notice), count=self.count + 1)


class TryEnding(StrEnum):
    """Endings of an attempt. `given_up`: it failed, and was the last one. `gone`: the receiver wants no more."""

    DELIVERED = "delivered"
    FAILED = "failed"
    GIVEN_UP = "given_up"
    GONE = "gone"


class WebhookTried(LedgerEvent, frozen=True, kw_only=True, tag="webhook_tried"):
    """The end of an attempt to deliver a notice; after a failure, the next attempt is due at `due_ms`."""

    number: int
    ending: TryEnding
    due_ms: int = 0


class Notify(Intent, frozen=True):
    """Deliver a notice; the result is whether the receiver wants more. The body is the same in every attempt."""

    actor_id: str
    url: str
    webhook_id: str
    body: bytes

    @property
    def free_to_repeat(self) -> bool:
        """True: a notice that comes twice has the same id."""
        return True


def tried(outbox: Outbox | None, event: WebhookTried) -> Outbox | None:
    """Return the outbox after an attempt."""
    if outbox is None:
        return None
    match event.ending:
        case TryEnding.GONE:
            return replace(outbox, notices=(), gone=True)
        case TryEnding.FAILED:
            return replace(outbox, notices=tuple(_later(notice, event) for notice in outbox.notices))
    return replace(outbox, notices=tuple(notice for notice in outbox.notices if notice.number != event.number))


def _later(notice: Notice, event: WebhookTried) -> Notice:
    if notice.number != event.number:
        return notice
    return replace(notice, attempts=notice.attempts + 1, due_ms=event.due_ms)


def outcome(outbox: Outbox | None, command: Done | Failed, now_ms: int) -> WebhookTried | None:
    """Return the event of an attempt's end; None for a notice that is not in the outbox any more."""
    number = int(command.intent.key.removeprefix(_KEY))
    notice = next((n for n in outbox.notices if n.number == number), None) if outbox else None
    if notice is None:
        return None
    if isinstance(command, Done):
        ending = TryEnding.DELIVERED if command.result else TryEnding.GONE
        return WebhookTried(now_ms, number=number, ending=ending)
    if notice.attempts >= len(_PAUSES_S):
        return WebhookTried(now_ms, number=number, ending=TryEnding.GIVEN_UP)
    due_ms = now_ms + _PAUSES_S[notice.attempts] * _SECOND_MS
    return WebhookTried(now_ms, number=number, ending=TryEnding.FAILED, due_ms=due_ms)


_KEY: Final = "webhook#"


def notify(actor_id: str, outbox: Outbox, notice: Notice, data: Mapping[str, Any]) -> Notify:
    """Return the attempt to deliver a notice with this data, in the body that Standard Webhooks defines."""
    body = {"type": notice.type, "timestamp": timestamp(notice.at_ms), "data": data}
    digest = hashlib.sha256(f"{actor_id}\n{notice.number}".encode()).digest()[:_ID_BYTES]
    webhook_id = f"msg_{base64.urlsafe_b64encode(digest).decode()}"
    return Notify(f"{_KEY}{notice.number}", actor_id, outbox.webhook.url, webhook_id, msgspec.json.encode(body))


def untried(outbox: Outbox | None) -> Sequence[Notice]:
    """Return the notices whose first attempt must be under way."""
    return () if outbox is None else [notice for notice in outbox.notices if not notice.attempts]


def overdue(outbox: Outbox | None, now_ms: int) -> Sequence[Notice]:
    """Return the notices whose next attempt is due."""
    return () if outbox is None else [notice for notice in outbox.notices if notice.due_ms <= now_ms]


def next_ms(outbox: Outbox | None) -> Sequence[int]:
    """Return the times in ms at which attempts are due."""
    return () if outbox is None else [notice.due_ms for notice in outbox.notices]


def secret_of(key: bytes, actor_id: str) -> str:
    """Derive the secret that signs an actor's notices, as Standard Webhooks writes it; it is stored nowhere."""
    secret = hmac.digest(key, f"webhook of {actor_id}".encode(), hashlib.sha256)
    return f"whsec_{base64.b64encode(secret).decode()}"
