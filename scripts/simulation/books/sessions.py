"""Books of one actor, kept from the raw JSON of its journal. Nothing here comes from the program under test."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]
MSAT_PER_SAT: Final = 1_000
# The least payout: a satoshi, and the least reserve beside it.
_LEAST_PAYABLE_MSAT: Final = 3_000
_DAY_MS: Final = 86_400_000
# A run rests for a quarter of an hour.
_LONG_PAUSE_MS: Final = 600_000


class BrokenError(Exception):
    """Something in a journal or an answer that must not be."""


def must(holds: bool, text: str) -> None:
    """Raise `BrokenError` with the text unless the condition holds."""
    if not holds:
        raise BrokenError(text)


class Account:
    """Account of a job or a session, as far as they are alike: money in, what is owed, and payouts.

    `shown`: all that the actor could ever truthfully say of itself, by the writes that were made.
    """

    def __init__(self, actor_id: str) -> None:
        self.actor_id = actor_id
        self.version = 0
        self.received = 0
        self.spent = 0
        self.owed = 0
        self.refunded = 0
        self.fees = 0
        self.invoices: dict[str, int] = {}
        self.credited: dict[str, int] = {}
        self.whole, self.ended = False, ""
        self.payout: Json | None = None
        self.payouts: dict[str, str] = {}
        self.fee_limits: dict[str, int] = {}
        self.refund_to: str | None = None
        self.refund_error: str | None = None
        self._tries, self._failed_ms, self._next_ms = 0, 0, 0
        self.shown: set[tuple[Any, ...]] = set()
        self.now: tuple[Any, ...] = ()

    @property
    def pending(self) -> int:
        """Amount that the payout under way may take, with its reserve, in msat."""
        return self.payout["target"]["amount_msat"] + self.payout["reserve_msat"] if self.payout else 0

    def take(self, event: Json) -> None:
        """Follow an event. Raises `BrokenError`."""
        self.version += 1
        kind = event["type"]
        handler = getattr(self, f"_on_{kind}", None)
        must(handler is not None, f"nobody knows the event {kind}")
        if handler is not None:
            handler(event)
        must(min(self.parts()) >= 0, f"an amount is below zero: {self.parts()}")
        must(sum(self.parts()) == self.received, f"books do not close: {self.parts()} of {self.received}")

    def _on_webhook_tried(self, event: Json) -> None:
        """Ignore the event, which moves no money."""

    def show(self) -> bool:
        """Record what the actor may say of itself once an event is written; return whether that has changed."""
        before, self.now = self.now, self.view()
        self.shown.add(self.now)
        return self.now != before

    def view(self) -> tuple[Any, ...]:
        """Return what the actor may say of itself."""
        return ()

    def parts(self) -> tuple[int, ...]:
        """Return all that was received, by what has become of it."""
        return self.spent, self.owed, self.pending, self.refunded

    @property
    def liability(self) -> int:
        """Amount that the wallet must hold for the actor; what a payout under way takes may have left it."""
        return self.received - self.spent - self.refunded - self.pending

    def credit(self, event: Json) -> int:
        """Credit a payment, and return its amount in msat. Raises `BrokenError`."""
        payment_hash, amount = event["payment_hash"], event["amount_msat"]
        must(payment_hash in self.invoices, f"{payment_hash[:8]} is not an invoice of this actor")
        must(payment_hash not in self.credited, f"{payment_hash[:8]} is credited twice")
        self.credited[payment_hash] = amount
        self.received += amount
        return int(amount)

    def invoice(self, invoice: Json) -> None:
        """Record an invoice that was made for the actor."""
        self.invoices[invoice["payment_hash"]] = invoice["amount_sats"] * MSAT_PER_SAT

    def _on_payout_started(self, event: Json) -> None:
        payment_hash = event["target"]["payment_hash"]
        must(self.payout is None, "two payouts at a time")
        # A payout that the node never tried may be sent again.
        must(self.payouts.get(payment_hash, "refused") == "refused", f"a second payout to {payment_hash[:8]}")
        amount, reserve = event["target"]["amount_msat"], event["reserve_msat"]
        least = 0 if event["target"]["internal"] else max(2_000, -(-amount // 100))
        must(least > 0 or int(payment_hash[:8], 16) % 4 == 0, f"{payment_hash[:8]} is not the node's own")
        must(reserve == (min(least, self.owed - amount) if self.whole else least), f"a reserve of {reserve} msat")
        refund_to = event.get("refund_to")
        must(refund_to in (None, self.refund_to), f"a payout to {refund_to}, which is not the destination")
        self.payout = event
        self.payouts[payment_hash] = "started"
        self.fee_limits[payment_hash] = least
        self.owed -= self.pending

    def _on_payout_unclear(self, event: Json) -> None:
        must(self.payout is not None, "no payout is under way")

    def _on_payout_paid(self, event: Json) -> None:
        payout = self._end("paid")
        amount, reserve = payout["target"]["amount_msat"], payout["reserve_msat"]
        must(event["payment_hash"] == payout["target"]["payment_hash"], "another payout was paid")
        must(0 <= event["fee_msat"] <= reserve, "the fee is more than its reserve")
        self.refunded += amount
        self.fees += event["fee_msat"]
        self.spent += event["fee_msat"]
        self.owed += reserve - event["fee_msat"]
        if self.refund_to is not None and payout.get("refund_to") == self.refund_to:
            self._name(self.refund_to, 0)

    def _on_payout_failed(self, event: Json) -> None:
        self.owed += self.pending
        self._end("failed" if event["refusal"] is None else "refused")

    def _name(self, destination: str | None, next_ms: int) -> None:
        self.refund_to, self.refund_error = destination, None
        self._tries, self._failed_ms, self._next_ms = 0, 0, next_ms

    def _on_refund_destination_named(self, event: Json) -> None:
        first = self.refund_to is None
        must(event["next_ms"] == (0 if first else event["at_ms"] + 60_000), "another destination is tried at once")
        self._name(event["destination"], event["next_ms"])

    def _on_refund_try_failed(self, event: Json) -> None:
        must(self.refund_to is not None and self.payout is None, "a refund is tried beside a payout, or to nowhere")
        pause_ms = _DAY_MS if event["error"] == "not_found" else min(60_000 << self._tries, _DAY_MS)
        must(event["next_ms"] == event["at_ms"] + pause_ms, "a refund is not tried again in time")
        self.refund_error, self._tries = event["error"], self._tries + 1
        self._failed_ms, self._next_ms = event["at_ms"], event["next_ms"]

    def _unrefunded(self) -> str | None:
        """Describe what is owed and should be on its way to its destination, unless a long pause is not over."""
        payable = self.owed >= (MSAT_PER_SAT if self.whole else _LEAST_PAYABLE_MSAT)
        if self.refund_to is None or not payable or self._next_ms - self._failed_ms > _LONG_PAUSE_MS:
            return None
        return f"{self.owed} msat are owed, and do not go to {self.refund_to}"

    def _end(self, how: str) -> Json:
        payout = self.payout
        if payout is None:
            raise BrokenError("no payout is under way")
        self.payouts[payout["target"]["payment_hash"]] = how
        self.payout, self.ended = None, payout["target"]["payment_hash"]
        return payout

    def unrest(self) -> str | None:
        """Describe something that is still under way; None if nothing is."""
        return "a payout is under way" if self.payout else self._unrefunded()

    def unfinished(self) -> str | None:
        """Return why the actor must not be archived; None if it may be."""
        if self.owed >= (MSAT_PER_SAT if self.whole else _LEAST_PAYABLE_MSAT):
            return f"{self.owed} msat are owed"
        return self.unrest() if self.received else "it took no money"


class SessionAccount(Account):
    """Account of a session."""

    def __init__(self, actor_id: str) -> None:
        super().__init__(actor_id)
        self.state = "none"
        self.balance = 0
        self.seq = 0
        self.holds: dict[str, int] = {}
        self.held_ever: set[str] = set()
        self.finished: dict[str, Json] = {}
        self.requests: dict[str, Json] = {}
        self.refunded_by: dict[str, int] = {}
        self.cut_off: set[str] = set()
        self.lapsed: set[str] = set()

    @property
    def over(self) -> bool:
        """End of the session, after which money that comes back is owed."""
        return self.state in {"closed", "expired"}

    def parts(self) -> tuple[int, ...]:
        """See `Account.parts`."""
        return self.balance, sum(self.holds.values()), *super().parts()

    def take(self, event: Json) -> None:
        """See `Account.take`."""
        super().take(event)
        must(event["balance_msat"] == self.balance, f"the balance is told wrongly: {event['balance_msat']}")
        must(event["seq"] >= self.seq, "the ledger's numbers fall")
        self.seq = event["seq"]

    def view(self) -> tuple[Any, ...]:
        """See `Account.view`."""
        held = sum(self.holds.values())
        books = self.received, self.balance, held, self.spent, self.owed + self.pending, self.refunded
        return self.state, *books, self.refund_to, self.refund_error

    def _on_session_opened(self, event: Json) -> None:
        must(self.state == "none", "opened twice")
        self.state = "awaiting_payment"
        self.invoice(event["deposit_invoice"])
        self._name(event["refund_to"], 0)

    def _on_top_up_requested(self, event: Json) -> None:
        must(self.state != "none", "not opened")

    def _on_top_up_issued(self, event: Json) -> None:
        self.invoice(event["invoice"])

    def _on_top_up_failed(self, event: Json) -> None:
        must(self.state != "none", "not opened")

    def _on_invoice_lapsed(self, event: Json) -> None:
        must(event["payment_hash"] not in self.credited, "a paid invoice lapsed")
        self.lapsed.add(event["payment_hash"])

    def _on_deposited(self, event: Json) -> None:
        self.balance += self.credit(event)
        if not self.over:
            self.state = "active"
        self._give_back(event["refunded_msat"], event["amount_msat"])

    def _on_hold_placed(self, event: Json) -> None:
        hold = event["hold"]
        name = hold["once"]["name"]
        must(self.state == "active", f"a hold in a session that is {self.state}")
        must(name not in self.holds, f"{name} is held for twice")
        must(name not in self.finished, f"{name} is held for again after it was charged")
        must(hold["amount_msat"] <= self.balance, "a hold beyond the balance")
        self.balance -= hold["amount_msat"]
        self.holds[name] = hold["amount_msat"]
        self.held_ever.add(name)
        self.cut_off.discard(name)

    def _on_hold_released(self, event: Json) -> None:
        held = self._unhold(event["name"])
        must(event["released_msat"] == held, "another amount is released than was held")
        self.balance += held
        self._give_back(event["refunded_msat"], held)

    def _on_request_finished(self, event: Json) -> None:
        held, debit = self._unhold(event["name"]), event["debit_msat"]
        must(0 <= debit <= held, "a debit beyond its hold")
        must(debit + event["released_msat"] == held, "a hold ends as something else than it was")
        must(event["name"] not in self.finished, f"{event['name']} is charged twice")
        left = event["ending"] in {"left", "broken"} and event["name"] in self.cut_off
        must(debit > 0 or not left, f"{event['name']} was sent and left, and is free")
        self.finished[event["name"]] = event
        self.requests[event["request_id"]] = event
        self.spent += debit
        self.balance += held - debit
        self._give_back(event["refunded_msat"], held - debit)

    def _on_payout_started(self, event: Json) -> None:
        ready = self.over and not self.holds
        must(ready or event["refund_to"] is None, "a refund goes out by itself while the session goes on")
        super()._on_payout_started(event)

    def _on_session_closed(self, event: Json) -> None:
        self._over("closed", event)

    def _on_session_expired(self, event: Json) -> None:
        self._over("expired", event)

    def _over(self, state: str, event: Json) -> None:
        must(not self.over, "a session ends once")
        must(event["refunded_msat"] == self.balance, "what is left is not what is owed")
        self.state, self.owed, self.balance = state, self.owed + self.balance, 0

    def _give_back(self, refunded: int, amount: int) -> None:
        must(
            refunded == (amount if self.over else 0), "what comes back to a session that is over is owed, and only then"
        )
        self.balance -= refunded
        self.owed += refunded

    def _unhold(self, name: str) -> int:
        must(name in self.holds, f"{name} is not held for")
        return self.holds.pop(name)

    def unrest(self) -> str | None:
        """See `Account.unrest`."""
        if self.holds:
            return f"holds never end: {sorted(self.holds)}"
        if self.received and not self.over:
            return f"it is still {self.state}"
        return super().unrest()

    def unfinished(self) -> str | None:
        """See `Account.unfinished`."""
        open_ = [
            payment_hash for payment_hash in self.invoices if payment_hash not in self.credited.keys() | self.lapsed
        ]
        return f"the invoice {open_[0][:8]} may still be paid" if open_ else super().unfinished()
