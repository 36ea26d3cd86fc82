"""Expected notices of a run's webhooks, worked out from raw events, beside those that their receivers got."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from .jobs import JobAccount
from .sessions import Account, Json, SessionAccount, must

_TOLD_STATES: Final = frozenset({"awaiting_work_payment", "complete", "rejected", "failed", "expired"})
_PAUSES_S: Final = (5, 30, 120, 600, 3_600, 14_400, 28_800, 38_400)
_PERIODS_MS: Final = {"hour": 3_600_000, "day": 86_400_000, "week": 604_800_000}
_WAITING_MAX: Final = 64
# The promise is a minute; the rest is for a host to become available.
LATE_MS: Final = 90_000


@dataclass(eq=False)
class _Notice:
    """A notice to send. `webhook_id`: the id that it was sent under. `due_ms`: when the next attempt is due."""

    body: Json
    due_ms: int
    failures: int = 0
    webhook_id: str | None = None
    taken: bool = False
    pending: bool = True


@dataclass(eq=False)
class _Outbox:
    url: str
    threshold: int
    notices: list[_Notice] = field(default_factory=list)
    low: bool = True
    state: str = ""
    refund_to: str | None = None
    amount: int = 0
    error: str | None = None
    gone: bool = False
    wants_no_more: bool = False
    holds: dict[str, Json] = field(default_factory=dict)
    spent: Counter[tuple[str, int]] = field(default_factory=Counter)
    windows: dict[str, int] = field(default_factory=dict)

    def pending(self) -> list[_Notice]:
        return [notice for notice in self.notices if notice.pending]

    def put(self, kind: str, at_ms: int, data: Json) -> None:
        """Add a notice, unless the receiver wants no more."""
        if not self.gone:
            self.notices.append(_Notice({"type": kind, "timestamp": at_ms, "data": data}, at_ms))


class NoticeBook:
    """Book of all notices, due and sent. `wrote` and `sent` raise `BrokenError` for what does not fit."""

    def __init__(self) -> None:
        self._outboxes: dict[str, _Outbox] = {}
        self._of_url: dict[str, _Outbox] = {}
        self._named: dict[str, _Notice] = {}
        self.told = 0

    def wrote(self, account: Account, event: Json) -> None:
        """Follow an event of an actor, whose account follows it already."""
        actor_id, webhook = account.actor_id, event.get("webhook")
        if webhook is not None:
            outbox = _Outbox(webhook["url"], webhook.get("low_balance_msat", 0))
            self._outboxes[actor_id] = self._of_url[outbox.url] = outbox
            return
        found = self._outboxes.get(actor_id)
        if found is None:
            must(event["type"] != "webhook_tried", "a webhook was tried that nobody has named")
        elif event["type"] == "webhook_tried":
            _tried(found, event)
        elif event["type"] in {"payout_started", "payout_paid", "refund_try_failed", "refund_destination_named"}:
            _refund(found, account, event)
        elif isinstance(account, JobAccount):
            _job(found, account, event)
        elif isinstance(account, SessionAccount):
            _session(found, account, event)

    def sent(self, url: str, webhook_id: str, body: bytes, *, taken: bool) -> None:
        """Check a notice that a receiver was sent; `taken`: the receiver has it now."""
        outbox = self._of_url.get(url)
        must(outbox is not None, "an address is told something, and nobody has named it")
        if outbox is None:
            return
        said: Json = json.loads(body, object_hook=_with_times)
        matching = [n for n in outbox.notices if n.body == said and n.webhook_id in (None, webhook_id)]
        must(bool(matching), f"it is told as {webhook_id} what is not so: {said}")
        if not matching:
            return
        must(self._named.setdefault(webhook_id, matching[0]) is matching[0], f"{webhook_id} names another notice")
        matching[0].webhook_id = webhook_id
        matching[0].taken = matching[0].taken or taken
        self.told += taken

    def wants_no_more(self, url: str) -> None:
        """Record that a receiver has asked for no further notices."""
        self._of_url[url].wants_no_more = True

    def untold(self, actor_id: str) -> bool:
        """Return whether this actor still has a notice to send."""
        return actor_id in self._outboxes and bool(self._outboxes[actor_id].pending())

    def unrest(self) -> str | None:
        """Describe a notice that is still to be sent; None if there is none."""
        for actor_id, outbox in self._outboxes.items():
            if pending := outbox.pending():
                return f"{actor_id} has still to tell {pending[0].body['type']}"
        return None

    def late(self, now_ms: int) -> str | None:
        """Describe an overdue notice; None if there is none. Notices may be overdue while there is trouble."""
        for actor_id, outbox in self._outboxes.items():
            for notice in outbox.pending():
                if notice.due_ms + LATE_MS < now_ms:
                    return f"{actor_id} should have told {notice.body['type']} {now_ms - notice.due_ms} ms ago"
        return None


def _with_times(said: Json) -> Json:
    """Return the body with its times as milliseconds."""
    times = {name: said[name] for name in ("timestamp", "expiresAt", "nextAttemptAt", "renewsAt") if name in said}
    return said | {name: round(datetime.fromisoformat(at).timestamp() * 1_000) for name, at in times.items()}


def _job(outbox: _Outbox, account: JobAccount, event: Json) -> None:
    before, outbox.state = outbox.state, account.state
    if account.state == before or account.state not in _TOLD_STATES or not account.received:
        return
    data: Json = {"jobId": account.actor_id, "state": account.state}
    if account.state == "awaiting_work_payment":
        invoice = event["work_invoice"]
        data |= {"amountSats": invoice["amount_sats"], "expiresAt": invoice["expires_at_ms"]}
    elif account.state == "complete":
        charged = event["charged_msat"]
        data |= {"chargedMsat": charged, "refundMsat": account.credited[account.work_hash] - charged}
    outbox.put(f"job.{account.state}", event["at_ms"], data)


def _refund(outbox: _Outbox, account: Account, event: Json) -> None:
    """Follow the refunds to a destination: each payment is told of, and each other reason of a failure."""
    of_actor = {"jobId" if isinstance(account, JobAccount) else "sessionId": account.actor_id}
    match event["type"]:
        case "payout_started":
            outbox.refund_to, outbox.amount = event["refund_to"], event["target"]["amount_msat"]
        case "payout_paid" if outbox.refund_to is not None:
            paid = {"amountSats": outbox.amount // 1_000, "paymentHash": event["payment_hash"]}
            outbox.put("refund.paid", event["at_ms"], {**of_actor, **paid, "owedMsat": account.owed})
            outbox.error = account.refund_error
        case "refund_try_failed":
            if event["error"] != outbox.error:
                failed = {"error": event["error"], "nextAttemptAt": event["next_ms"], "owedMsat": account.owed}
                outbox.put("refund.failed", event["at_ms"], {**of_actor, **failed})
            outbox.error = event["error"]
        case "refund_destination_named":
            outbox.error = None


def _session(outbox: _Outbox, account: SessionAccount, event: Json) -> None:
    _balance(outbox, account, event)
    match event["type"]:
        case "hold_placed":
            hold = event["hold"]
            outbox.holds[hold["once"]["name"]] = hold
            outbox.windows |= {name: limit.get("from_ms", 0) for name, limit in _limits(hold)}
        case "hold_released":
            outbox.holds.pop(event["name"])
        case "request_finished":
            _spend(outbox, account, outbox.holds.pop(event["name"]), event)


def _limits(hold: Json) -> list[tuple[str, Json]]:
    return list(zip(hold.get("counters", ()), hold.get("limits", ()), strict=True))


def _spend(outbox: _Outbox, account: SessionAccount, hold: Json, event: Json) -> None:
    """Add a debit to what is spent under each limit, and a notice for those of which it reaches four fifths."""
    for name, limit in _limits(hold):
        begin_ms, most = limit.get("from_ms", 0), limit["limit_msat"]
        before = outbox.spent[name, begin_ms]
        after = outbox.spent[name, begin_ms] = before + event["debit_msat"]
        period = limit.get("period")
        end_ms = None if period is None else begin_ms + _PERIODS_MS[period]
        is_over = end_ms is not None and (end_ms <= event["at_ms"] or outbox.windows[name] != begin_ms)
        if account.over or is_over or not 5 * before < 4 * most <= 5 * after or len(outbox.pending()) >= _WAITING_MAX:
            continue
        text = f"max_msat = {most}" if period is None else f"max_msat_per = {most}/{period}"
        data: Json = {"sessionId": account.actor_id, "caveat": text, "spentMsat": after, "limitMsat": most}
        data |= {} if hold.get("spender") is None else {"spender": hold["spender"]}
        data |= {} if end_ms is None else {"renewsAt": end_ms}
        outbox.put("session.limit_nearly_spent", event["at_ms"], data)


def _balance(outbox: _Outbox, account: SessionAccount, event: Json) -> None:
    if outbox.gone or account.over:
        return
    remaining = account.balance + sum(account.holds.values())
    low = remaining < outbox.threshold
    if low and not outbox.low and not any(each.body["type"] == "session.low_balance" for each in outbox.pending()):
        data = {"sessionId": account.actor_id, "remainingMsat": remaining, "lowBalanceSats": outbox.threshold // 1_000}
        outbox.put("session.low_balance", event["at_ms"], data)
    outbox.low = low


def _tried(outbox: _Outbox, event: Json) -> None:
    number = event["number"]
    must(number < len(outbox.notices), f"notice {number} was tried, and there is none")
    notice = outbox.notices[number]
    must(notice.pending, f"notice {number} was tried after its end")
    match event["ending"]:
        case "delivered":
            must(notice.taken, f"notice {number} counts as delivered, and nobody has it")
            notice.pending = False
        case "gone":
            must(outbox.wants_no_more, "a receiver is told nothing more, and has not asked for that")
            outbox.gone = True
            for other in outbox.notices:
                other.pending = False
        case "failed":
            must(event["due_ms"] == event["at_ms"] + _PAUSES_S[notice.failures] * 1_000, "not tried again in time")
            notice.due_ms, notice.failures = event["due_ms"], notice.failures + 1
        case _:
            must(False, f"notice {number} is given up within a day")
