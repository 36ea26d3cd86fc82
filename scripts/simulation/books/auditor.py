"""Auditor of a run: compares journals, node, model and clients' answers after every write and every answer.

It reads raw JSON and adds up by itself; of the program it knows only the names of events and answers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from ....actors.domain.behaviour import Reply
from ....actors.domain.job.state import JobView
from ....actors.domain.payments.invoices import Settlement
from ....actors.domain.payments.payouts import RefundView
from ....actors.domain.session.messages import (
    LedgerPage,
    Relayed,
    RequestAnswer,
    SessionCreated,
    SessionView,
    TopUpInvoice,
)
from ....actors.ports import Append
from .charges import ModelBook
from .holders import HolderBook
from .hours import Hours, HourSums
from .jobs import JobAccount
from .prices import Tokens
from .sessions import Account, BrokenError, Json, SessionAccount, must
from .upstreams import UpstreamBook, UpstreamCall
from .webhook_expectations import NoticeBook

Violate = Callable[[str], None]
Tell = Callable[[str], None]


class Auditor:
    """Books of a run. Every mismatch is reported to `violate`."""

    def __init__(
        self, violate: Violate, tell: Tell, clock: Callable[[], float], upstreams: UpstreamBook | None = None
    ) -> None:
        self._violate = violate
        self._tell = tell
        self._clock = clock
        self._shown_at_s: dict[str, float] = {}
        self.accounts: dict[str, Account] = {}
        self._liable: defaultdict[str, int] = defaultdict(int)
        self.paid_in: dict[str, int] = {}
        self.paid_to: dict[tuple[str, str], tuple[int, int]] = {}
        self._told_to_pay: set[tuple[str, str]] = set()
        self._offers: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self._owner_of: dict[str, str] = {}
        self._answers: dict[tuple[str, str], tuple[str, int]] = {}
        self._epochs: dict[int, int] = {}
        self._refused: set[tuple[str, str]] = set()
        self._notices = NoticeBook()
        self.model = ModelBook(upstreams=upstreams)
        self._archive: dict[str, int] = {}
        self._removed: set[str] = set()
        self.holders = HolderBook(clock)
        self._hours = HourSums()
        self.checks = 0

    # Reports from the store and the node

    def wrote(self, append: Append) -> None:
        """Check a write of the store: its epoch, its events, and the liability that it adds."""
        current = append.epoch == self._epochs.get(append.partition)
        self._check(append.actor_id, lambda: must(current, f"a host writes that lost partition {append.partition}"))
        for data in append.events:
            event: Json = json.loads(data)
            self._tell(f"  {append.actor_id} {append.expected_version}: {_brief(event)}")
            self._check(append.actor_id, partial(self._follow, append.actor_id, event))
            self._check(append.actor_id, partial(self.holders.wrote, append.actor_id, append.epoch, event))
        self._check(append.actor_id, lambda: self._hours.wrote(append))
        self._liable[append.actor_id] += append.liability_change_msat
        self._check(append.actor_id, partial(self._hold_to_liability, append.actor_id))
        account = self.accounts.get(append.actor_id)
        for_good = append.keep_ms is None or account is None or not account.received
        self._check(append.actor_id, lambda: must(for_good, "it took money, and the store is to forget it"))

    def claims(self, host_id: str, partitions: Collection[int], planned: Collection[int]) -> None:
        """Check that a host is about to claim only `planned` partitions: those of the newest plan that it knows."""
        outside = sorted(set(partitions).difference(planned))
        self._check(host_id, lambda: must(not outside, f"it takes over {outside[:3]}, which it is not to have"))

    def claimed(self, partition: int, epoch: int) -> None:
        """Record a claim of a partition. Raises `BrokenError` when the epoch does not rise."""
        must(epoch > self._epochs.get(partition, 0), "an epoch does not rise")
        self._epochs[partition] = epoch

    def _hold_to_liability(self, actor_id: str) -> None:
        """Check that the running total of what the wallet must hold follows from the written events."""
        account, told = self.accounts.get(actor_id), self._liable[actor_id]
        liable = 0 if account is None else account.liability
        must(told == liable, f"it is told to be owed {told} msat in all, and is owed {liable}")

    def _follow(self, actor_id: str, event: Json) -> None:
        account = self.accounts.get(actor_id)
        if account is None:
            opens_session = actor_id.startswith("ses_")
            account = SessionAccount(actor_id) if opens_session else JobAccount(actor_id, self.model.gives_away)
            self.accounts[actor_id] = account
        account.take(event)
        if account.show():
            self._shown_at_s[actor_id] = self._clock()
        self._notices.wrote(account, event)
        self.model.wrote(account, event)
        match event["type"]:
            case "deposited" | "eval_paid" | "work_paid":
                payment_hash, amount = event["payment_hash"], event["amount_msat"]
                must(self.paid_in.get(payment_hash) == amount, f"{payment_hash[:8]} was not paid with {amount} msat")
                must(self._owner_of.setdefault(payment_hash, actor_id) == actor_id, "credited to two actors")
            case "payout_started" if event["refund_to"] is not None:
                offered = self._offers[event["refund_to"], event["target"]["payment_hash"]]
                must(event["target"]["amount_msat"] in offered, "an invoice is paid that nobody asked for so")
            case "payout_paid":
                paid = self.paid_to.get((event["payment_hash"], actor_id))
                must(paid is not None, f"{event['payment_hash'][:8]} counts as paid, and was not")
            case "payout_failed":
                was_paid = (account.ended, actor_id) in self.paid_to
                must(not was_paid, f"{account.ended[:8]} counts as failed, and was paid")

    def received(self, payment_hash: str, amount_msat: int) -> None:
        """Record the payment of an invoice at the node."""
        self.paid_in[payment_hash] = amount_msat

    def payout_called(self, payment_hash: str, actor_id: str, fee_limit_msat: int) -> None:
        """Check that the node is asked to pay this once, for a payout that was journaled, and at most its reserve."""

        def check() -> None:
            must((payment_hash, actor_id) not in self._told_to_pay, f"{payment_hash[:8]} is paid to twice")
            self._told_to_pay.add((payment_hash, actor_id))
            account = self.accounts.get(actor_id)
            must(account is not None and payment_hash in account.payouts, f"{payment_hash[:8]}: no payout is journaled")
            limit = None if account is None else account.fee_limits[payment_hash]
            must(
                fee_limit_msat == limit, f"the route to {payment_hash[:8]} may cost {fee_limit_msat} msat, not {limit}"
            )

        self._check(actor_id, check)

    def paid_out(self, payment_hash: str, actor_id: str, amount_msat: int, fee_msat: int) -> None:
        """Check a payment that the node has made: it must be the only one, for a payout that is under way."""

        def check() -> None:
            must((payment_hash, actor_id) not in self.paid_to, f"{payment_hash[:8]} was paid twice")
            self.paid_to[payment_hash, actor_id] = amount_msat, fee_msat
            how = self.accounts[actor_id].payouts.get(payment_hash)
            must(how == "started", f"{payment_hash[:8]} is paid though its payout is {how}")

        self._check(actor_id, check)

    def offered(self, destination: str, payment_hash: str, asked_msat: int) -> None:
        """Record an invoice that a destination gave, and the amount that it was asked for."""
        self._offers[destination, payment_hash].add(asked_msat)

    # Reports from the model

    def asked(self, label: str, work: bool) -> int:
        """Check that the model may work for this label, and return the number of the call."""
        actor_id, _, name = label.partition("/")
        self._check(actor_id, lambda: self.model.asked(self.accounts.get(actor_id), name, work))
        return self.model.calls

    def used(self, label: str, work: bool, tokens: Tokens | None) -> None:
        """Record the tokens of a call that has ended; None: its figures were unreadable."""
        self.model.used(label, work, tokens)

    def cut_off(self, label: str) -> None:
        """Record that a call was cancelled midway; its prompt is billed."""
        actor_id, _, name = label.partition("/")
        account = self.accounts.get(actor_id)
        if isinstance(account, SessionAccount):
            account.cut_off.add(name)

    def came_to_nothing(self, label: str, away: bool) -> None:
        """Record a call that did not reach the model (`away`), or that the model refused for good."""
        self.model.came_to_nothing(label, away)

    # Reports from the upstreams

    def upstream_asked(self, effect: object, label: str, work: bool, *, left: bool) -> None:
        """Check that an upstream may be asked (see `UpstreamBook.asked`), whether it takes the call or not."""
        actor_id = label.partition("/")[0]
        self.asked(label, work)
        self._check(actor_id, lambda: self._upstreams.asked(effect, label, work, left=left))

    def upstream_takes(self, effect: object, upstream: str, label: str, work: bool) -> UpstreamCall:
        """Record a call that an upstream has taken, and may bill."""
        return self._upstreams.take(effect, upstream, label, work)

    def upstream_unanswered(self, call: UpstreamCall, *, at_once: bool) -> None:
        """Record a call that was taken and not answered (see `AttemptBook.evaluated_in_vain`)."""
        self.model.unanswered(call, at_once=at_once)

    @property
    def _upstreams(self) -> UpstreamBook:
        assert self.model.upstreams is not None
        return self.model.upstreams

    # Reports from receivers of webhooks

    def notified(self, url: str, webhook_id: str, body: bytes, *, taken: bool) -> None:
        """Check a notice that was sent to a receiver; `taken`: the receiver has it."""
        self._check(url, lambda: self._notices.sent(url, webhook_id, body, taken=taken))

    def wants_no_more(self, url: str) -> None:
        """Record that a receiver has asked for no further notices."""
        self._notices.wants_no_more(url)

    def late(self, now_ms: int) -> str | None:
        """Describe a notice that its receiver should have by now; None if there is none."""
        return self._notices.late(now_ms)

    # Reports from the archive

    def archived(self, actor_id: str, events: Sequence[bytes]) -> None:
        """Record how much of an actor's journal is in the archive."""
        self._archive[actor_id] = len(events)

    def uncredited(self) -> bool:
        """Return whether the node has received a payment that no actor has credited yet."""
        return not self.paid_in.keys() <= self._owner_of.keys()

    def removed(self, actor_id: str, length: int) -> None:
        """Check the deletion of an actor: it must be finished, and its whole journal archived."""
        self._removed.add(actor_id)
        self._check(actor_id, lambda: self._hold_to_archive(self.accounts[actor_id], length))

    def _hold_to_archive(self, account: Account, length: int) -> None:
        must(length == account.version == self._archive.get(account.actor_id), "it is deleted, and not in the archive")
        unfinished = account.unfinished()
        must(unfinished is None, f"it is deleted, and {unfinished}")
        must(not self._notices.untold(account.actor_id), "it is deleted, and has still something to tell")

    def excuses(self, event: str, fields: Json) -> bool:
        """Return whether this error is expected.

        A payment is reported again whose actor is archived by now, or the node took more for a route than it might.
        """
        payment_hash, actor_id = fields.get("payment_hash", ""), fields.get("actor_id", "")
        if event == "routing_fee_above_its_limit":
            limit = self.accounts[actor_id].fee_limits[payment_hash]
            fee_msat = self.paid_to[payment_hash, actor_id][1]
            return bool(fields["fee_msat"] == fee_msat > limit)
        owner = self._owner_of.get(payment_hash)
        return event == "payment_without_owner" and owner in self._removed

    # Reports from clients and the treasury

    def delivered(self, settlement: Settlement) -> None:
        """Check that a payment is journaled which the treasury counts as credited."""
        actor_id = str(settlement.actor_id)
        account = self.accounts.get(actor_id)
        known = account is not None and settlement.payment_hash in account.credited
        self._check(actor_id, lambda: must(known, f"{settlement.payment_hash[:8]} is acknowledged and not written"))

    def told(self, actor_id: str, reply: Reply, name: str = "") -> None:
        """Check an answer that a client got; `name` is that of an operation that is done once."""
        self._check(actor_id, lambda: self._hold_to(actor_id, reply, name))

    def _hold_to(self, actor_id: str, reply: Reply, name: str) -> None:
        account = self.accounts.get(actor_id)
        must(account is not None, "an answer names an actor that is not written")
        match account, reply:
            case _, SessionCreated(deposit_invoice=invoice) | TopUpInvoice(invoice=invoice):
                known = account is not None and invoice.payment_hash in account.invoices
                must(known, f"the invoice {invoice.payment_hash[:8]} was shown and is not written")
            case SessionAccount(), SessionView():
                refund = reply.refund
                books = reply.deposited_msat, reply.balance_msat, reply.held_msat, reply.spent_msat
                amounts = (*books, refund.owed_msat, refund.paid_msat)
                seen = (reply.state.value, *(amount.value for amount in amounts), *_standing(refund))
                must(seen in account.shown, f"a client was shown what is not written: {seen}")
            case JobAccount(), JobView():
                seen = _seen(reply)
                must(seen in account.shown, f"a client was shown what is not written: {seen}")
                must(reply.eval_invoice.payment_hash in account.invoices, "an invoice was shown that is not written")
            case SessionAccount(), RequestAnswer() | Relayed():
                self._answered(account, reply, name)

    def _answered(self, account: SessionAccount, reply: RequestAnswer | Relayed, name: str) -> None:
        finished = account.requests.get(reply.request_id)
        must(finished is not None, f"{reply.request_id} is answered and not charged")
        if finished is None:
            return
        debit = reply.cost.debit_msat.value
        must(finished["debit_msat"] == debit, f"{reply.request_id} is charged otherwise than was told")
        given = reply.text if isinstance(reply, RequestAnswer) else reply.body
        free = debit == 0 and not self.model.may_be_free(finished)
        must(not given or not free, f"{reply.request_id} is answered for nothing")
        known = self._answers.setdefault((account.actor_id, name), (reply.request_id, debit))
        must(known == (reply.request_id, debit), f"{name} has two answers")

    def streamed(self, actor_id: str, reply: RequestAnswer, text: str) -> None:
        """Check a stream that a client has read to its end.

        The pieces must add up to the answer. A stream that is sent again after its end has no pieces.
        """
        whole = text in {"", reply.text}
        self._check(
            actor_id, lambda: must(whole, f"{reply.request_id} was streamed as {text!r} and told as {reply.text!r}")
        )

    def relayed(self, actor_id: str, reply: Relayed, data: bytes) -> None:
        """Check a relayed stream that a client has read to its end; sent again, it comes as a whole in `reply`."""
        self._check(actor_id, lambda: self.model.read(reply.request_id, data + reply.body))

    def shown_since_s(self, job_id: str, view: JobView, now_s: float) -> float:
        """Return since when a job differs from this view, the last that it showed; now, while it does not.

        A job that has come back to this view does not differ.
        """
        account = self.accounts.get(job_id)
        return now_s if account is None or account.now == _seen(view) else self._shown_at_s[job_id]

    def of_holders(self, session_id: str, check: Callable[[], None]) -> None:
        """Run a check after a holder of a narrowed credential was answered or refused."""
        self._check(session_id, check)

    def refused(self, actor_id: str, name: str) -> None:
        """Record a refusal that says that nothing is charged; the client will not ask again."""
        self._refused.add((actor_id, name))

    def ledger(self, actor_id: str, page: LedgerPage) -> None:
        """Check a ledger that a client has read from its beginning."""

        def check() -> None:
            balance, signs = 0, {"deposit": 1, "release": 1, "hold": -1, "refund": -1, "debit": 0}
            for number, entry in enumerate(page.entries, 1):
                balance += signs[entry.kind.value] * entry.amount_msat.value
                must(entry.seq == number, f"ledger entry {number} has the number {entry.seq}")
                must(entry.balance_msat.value == balance, f"ledger entry {number} does not add up")

        self._check(actor_id, check)

    # The end

    def unrest(self) -> str | None:
        """Describe something that is not at its end yet; None if everything is."""
        for payment_hash, amount in self.paid_in.items():
            if payment_hash not in self._owner_of:
                return f"{payment_hash[:8]} was paid with {amount} msat and is credited to nobody"
        for actor_id, account in self.accounts.items():
            if (unrest := account.unrest()) is not None:
                return f"{actor_id}: {unrest}"
        return self._notices.unrest()

    def close(self, sums: Hours) -> None:
        """Compare the actors' books with those of the node and the store's hourly sums, now that all is at rest."""
        accounts = self.accounts.values()
        self.checks += 1
        if (differing := self._hours.differing(sums)) is not None:
            self._violate(differing)
        if (credited := sum(account.received for account in accounts)) != (came := sum(self.paid_in.values())):
            self._violate(f"{came} msat came in, and {credited} are credited")
        for actor_id, name in sorted(self._refused):
            account = self.accounts.get(actor_id)
            finished = account.finished.get(name) if isinstance(account, SessionAccount) else None
            if finished is not None and finished["debit_msat"]:
                self._violate(f"{actor_id}: {name} is charged, and its client was told that nothing is")
        went = sum(amount for amount, _ in self.paid_to.values())
        if (refunded := sum(account.refunded for account in accounts)) != went:
            self._violate(f"{went} msat went out, and {refunded} are refunded")

    def summary(self) -> dict[str, int]:
        """Return the figures of the run."""
        accounts = self.accounts.values()
        return {
            "actors": len(self.accounts),
            "deposited": sum(account.received for account in accounts),
            "spent": sum(account.spent for account in accounts),
            "owed": sum(account.owed for account in accounts),
            "refunded": sum(account.refunded for account in accounts),
            "notices": self._notices.told,
            "archived": len(self._removed),
            "checks": self.checks,
        }

    def _check(self, actor_id: str, check: Callable[[], None]) -> None:
        self.checks += 1
        try:
            check()
        except BrokenError as error:
            self._violate(f"{actor_id}: {error}")


def _seen(view: JobView) -> tuple[Any, ...]:
    """Return what a client sees in this view, in the form of `JobAccount.view`."""
    owing = view.refund
    owed, paid = (owing.owed_msat.value, owing.paid_msat.value) if owing else (0, 0)
    return view.state.value, view.updated_at_ms, owed, paid, *_standing(owing)


def _standing(refund: RefundView | None) -> tuple[str | None, str | None]:
    """Return the destination of a refund, and why it was not paid there."""
    standing = None if refund is None else refund.standing
    return (None, None) if standing is None else (standing.destination, standing.error)


def _brief(event: Json) -> str:
    told: dict[str, Any] = {}
    for name, value in event.items():
        if name in {"type", "at_ms", "seq", "request", "result", "client"} or value in (None, "", 0):
            continue
        if name == "hold":
            told |= {"name": value["once"]["name"], "held": value["amount_msat"]}
        elif isinstance(value, dict):
            told |= {name: value.get("payment_hash", "…")[:8]} if "payment_hash" in value else {}
        else:
            told[name] = value[:12] if isinstance(value, str) else value
    return " ".join([str(event["type"]), *(f"{name}={value}" for name, value in told.items())])
