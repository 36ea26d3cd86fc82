"""A session's account kept by hand, from the contract alone: whole numbers of msat, nothing of the code under test."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from fractions import Fraction

# The prices of tests/helpers/sessions.py: dollars for a million tokens, dollars for infrastructure, margin in percent.
INPUT_USD, OUTPUT_USD = Fraction(2), Fraction(10)
CACHE_USD = (Fraction(1, 10), Fraction(5, 2), Fraction(4))
INFRA_USD = Fraction(5, 10_000)
MARGIN = Fraction(140, 100)
EVAL_OVERHEAD, EVAL_MAX, WORK_OVERHEAD = 300, 200, 50
LEAST, DEFAULT, MOST = 100, 1_000, 4_000
LIFE_MS = 24 * 3_600_000

HOURLY, HOUR_MS = "h", 3_600_000
"""The counter of a limit that renews each hour."""

Counts = tuple[int, int, int, int, int]


def msat(cost_usd: Fraction, btc_usd: int) -> int:
    """A cost with its margin in msat, rounded up."""
    exact = cost_usd * MARGIN / btc_usd * 100_000_000_000
    return -(-exact.numerator // exact.denominator)


def tokens_usd(counts: Counts) -> Fraction:
    """Price these tokens in USD: input, output, cache reads, 5-minute and 1-hour cache writes."""
    rates = (INPUT_USD, OUTPUT_USD, *CACHE_USD)
    return sum((rate * count for rate, count in zip(rates, counts, strict=True)), Fraction(0)) / 1_000_000


def charge(evaluation: Counts | None, work: Counts | None, btc_usd: int) -> int:
    """Charge a request, before its hold bounds it: infrastructure belongs to the work."""
    judged = tokens_usd(evaluation) if evaluation else Fraction(0)
    return msat(judged + (tokens_usd(work) + INFRA_USD if work else 0), btc_usd)


@dataclass(frozen=True)
class Wanted:
    """Bound of a request's cost: without an answer, and for each token of it; its wanted length, and its least."""

    base_usd: Fraction
    most: int
    least: int
    btc_usd: int

    def worst(self, max_tokens: int) -> int:
        """The most that it can cost with an answer of so many tokens."""
        return msat(self.base_usd + OUTPUT_USD * max_tokens / 1_000_000, self.btc_usd)


def wanted_request(request: str, max_tokens: int | None, btc_usd: int) -> Wanted:
    """A request: bytes bound tokens, and it is judged before."""
    judged = (len(json.dumps(request, ensure_ascii=False).encode()) + EVAL_OVERHEAD, EVAL_MAX, 0, 0, 0)
    prompt = (len(request.encode()) + WORK_OVERHEAD, 0, 0, 0, 0)
    most = min(max_tokens or DEFAULT, MOST)
    return Wanted(tokens_usd(judged) + tokens_usd(prompt) + INFRA_USD, most, min(LEAST, most), btc_usd)


def wanted_call(tokens: int, rate: str, max_tokens: int, least: int, btc_usd: int) -> Wanted:
    """A relayed call: its prompt at the dearest rate that it may have."""
    usd = {"input": INPUT_USD, "cache_write_5m": CACHE_USD[1], "cache_write_1h": CACHE_USD[2]}[rate]
    return Wanted(usd * tokens / 1_000_000 + INFRA_USD, max_tokens, min(max(LEAST, least), max_tokens), btc_usd)


def reserve(amount: int) -> int:
    """Return the reserve that a payout must leave for routing."""
    return max(2_000, -(-amount // 100))


@dataclass(frozen=True)
class Limits:
    """A credential: `totals` are its spend limits by counter, `HOURLY` that of a budget."""

    totals: dict[str, int] = field(default_factory=dict)
    per_request: int | None = None
    expired: bool = False
    forbidden: bool = False

    def counts(self, at_ms: int) -> dict[str, int]:
        """The limits by what a hold of that time counts towards."""
        return {count_of(counter, at_ms): limit for counter, limit in self.totals.items()}


def count_of(counter: str, at_ms: int) -> str:
    """The counter, with its hour where it renews."""
    return f"{counter}@{at_ms // HOUR_MS}" if counter == HOURLY else counter


@dataclass
class Held:
    """A request under way."""

    amount: int
    max_tokens: int
    digest: str
    btc_usd: int
    counters: tuple[str, ...]


@dataclass
class Payout:
    """A payout under way."""

    payment_hash: str
    amount: int
    name: str
    digest: str
    internal: bool = False

    @property
    def reserve(self) -> int:
        """Amount that its route may take of what is owed; within the node there is none."""
        return 0 if self.internal else reserve(self.amount)

    @property
    def total(self) -> int:
        """With its reserve."""
        return self.amount + self.reserve


@dataclass
class Account:
    """The books of one session."""

    expires_at_ms: int
    state: str = "awaiting_payment"
    balance: int = 0
    spent: int = 0
    owed: int = 0
    paid_back: int = 0
    credited: dict[str, int] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    lapsed: set[str] = field(default_factory=set)
    ordered: dict[str, str] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)
    hour: str | None = None
    """Count of the budget's present hour; None if that was over at the last hold."""
    payout: Payout | None = None
    paid_out: dict[str, bool] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Return whether the session takes no more requests."""
        return self.state in {"closed", "expired"}

    @property
    def deposited(self) -> int:
        """All that came in."""
        return sum(self.credited.values())

    @property
    def held_msat(self) -> int:
        """Sum the holds of requests under way."""
        return sum(hold.amount for hold in self.held.values())

    @property
    def owed_msat(self) -> int:
        """Return what the client sees as owed: until a payout has ended, its amount still is."""
        return self.owed + (self.payout.total if self.payout else 0)

    @property
    def refund_state(self) -> str:
        """Something was paid back: then it is unfinished as long as a satoshi and its reserve are left."""
        if self.payout:
            return "pending"
        if self.paid_back:
            return "partly_paid" if self.owed >= 1_000 + reserve(1_000) else "paid"
        return "owed" if self.owed else "none"

    def unspendable(self, now_ms: int) -> str | None:
        """The code of the refusal to spend, if there is one."""
        if self.state == "awaiting_payment":
            return "payment_required"
        if self.state == "closed":
            return "closed"
        return "expired" if self.state == "expired" or now_ms >= self.expires_at_ms else None

    def give(self, amount: int) -> None:
        """Add to what can be spent, or is owed once the session is over."""
        if self.over:
            self.owed += amount
        else:
            self.balance += amount

    def credit(self, payment_hash: str, amount: int, now_ms: int) -> bool:
        """A payment counts once; False for another time."""
        if payment_hash in self.credited:
            return False
        self.credited[payment_hash] = amount
        self.pending.pop(payment_hash, None)
        self.lapsed.discard(payment_hash)
        self.give(amount)
        if not self.over:
            self.state, self.expires_at_ms = "active", now_ms + LIFE_MS
        return True

    def judge(self, wanted: Wanted, limits: Limits, now_ms: int) -> tuple[str, int, int]:
        """Judge a new request: the refusal's code, or "", the length of the answer and the hold."""
        if limits.expired or limits.forbidden:
            return "caveat_violated", 0, 0
        if code := self.unspendable(now_ms):
            return code, 0, 0
        room = [limit - self.used.get(counter, 0) for counter, limit in limits.counts(now_ms).items()]
        room += [] if limits.per_request is None else [limits.per_request]
        allowed = min([self.balance, *room])
        if wanted.worst(wanted.most) <= allowed:
            return "", wanted.most, wanted.worst(wanted.most)
        required = wanted.worst(wanted.least)
        if room and required > min(room):
            return "caveat_violated", required, 0
        if required > self.balance:
            return "insufficient_balance", required, 0
        # One token of output more, in msat, is the same everywhere; rounding moves it by one at most.
        token = OUTPUT_USD / 1_000_000 * MARGIN / wanted.btc_usd * 100_000_000_000
        length = min(wanted.least + int((allowed - required) / token) + 1, wanted.most)
        while length > wanted.least and wanted.worst(length) > allowed:
            length -= 1
        return "", length, wanted.worst(length)

    @property
    def present(self) -> dict[str, int]:
        """Counts by counter as they are now: none of hours that are over."""
        return {name.partition("@")[0]: n for name, n in self.used.items() if "@" not in name or name == self.hour}

    def hold(self, name: str, hold: Held, limits: Limits, now_ms: int) -> None:
        """A request begins."""
        self.balance -= hold.amount
        self.held[name] = hold
        if HOURLY in limits.totals or self.hour != count_of(HOURLY, now_ms):
            self.hour = count_of(HOURLY, now_ms) if HOURLY in limits.totals else None
        for counter, limit in limits.counts(now_ms).items():
            self.limits[counter] = min(limit, self.limits.get(counter, limit))
            self.used[counter] = self.used.get(counter, 0) + hold.amount

    def end_request(self, name: str, debit: int) -> None:
        """A request ends: what it cost is spent, the rest is given back."""
        hold = self.held.pop(name)
        assert 0 <= debit <= hold.amount
        self.spent += debit
        self.give(hold.amount - debit)
        for counter in hold.counters:
            self.used[counter] -= hold.amount - debit

    def end(self, state: str) -> None:
        """The session is over, if it was not: what could be spent is owed."""
        if not self.over:
            self.owed, self.balance, self.state = self.owed + self.balance, 0, state

    def begin_payout(self, payout: Payout) -> None:
        """A payout begins."""
        self.payout = payout
        self.owed -= payout.total
        assert self.owed >= 0

    def end_payout(self, fee: int | None) -> None:
        """End a payout: paid, with this routing fee, or failed."""
        assert self.payout is not None
        payout, self.payout = self.payout, None
        self.paid_out[payout.payment_hash] = fee is not None
        self.owed += payout.total
        if fee is not None:
            fee = min(fee, payout.reserve)
            self.owed -= payout.amount + fee
            self.paid_back += payout.amount
            self.spent += fee
