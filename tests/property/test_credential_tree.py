"""Any tree of credentials that spend from one session: each `max_msat` in a chain holds, for all beneath it together.

So does each `max_msat_per`, in each of its windows. The account is kept by hand, for every caveat of every chain, also
for those that can't bind. The macaroons are made by pymacaroons.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.credentials.macaroon import verify
from satmeter.actors.domain.errors import Refusal
from tests.helpers.credentials import KEY, ROOT, appended
from tests.helpers.sessions import DAY_MS, SESSION_TERMS, SessionBench, ask, completed, rejected

# What the smallest useful answer to the tests' request can cost, and each token more of it.
BASE, TOKEN, LEAST = 4_536, 14, 4_536 + 1_400
JUDGED, WORKED = 3_080, 3_080 + 3_780

picks = st.integers(0, 1_000)
# Few of them, so that equal, wider and narrower ones meet in a chain.
limits = st.sampled_from([5_000, 6_000, 9_000, 20_000, 40_000, 10**15])
periods = st.sampled_from(["", "hour", "hour", "day", "week"])
RANK = {"hour": 1, "day": 2, "week": 3, "": 4}
LENGTH_MS = {"hour": DAY_MS // 24, "day": DAY_MS, "week": 7 * DAY_MS}
Window = tuple[int, int]


class Limit(NamedTuple):
    """A limit on spending, by the number of the credential that it made; `period`: when it renews, if it does."""

    made: int
    msat: int
    period: str

    def window(self, now_ms: int) -> Window:
        """The count that a request counts towards now: the limit's, in the present window, by the calendar."""
        if not self.period:
            return self.made, 0
        now = datetime.fromtimestamp(now_ms // 1_000, UTC)
        begin_h = (now.weekday() if self.period == "week" else 0) * 24 + (0 if self.period == "hour" else now.hour)
        return self.made, now_ms // LENGTH_MS["hour"] - begin_h

    def end_ms(self, now_ms: int) -> int:
        """The end of the present window."""
        return self.window(now_ms)[1] * LENGTH_MS["hour"] + LENGTH_MS[self.period]


@dataclass(frozen=True)
class Credential:
    """One of the tree. `limits`: each limit of its chain."""

    token: str
    grant: Grant
    limits: tuple[Limit, ...]

    @property
    def counting(self) -> list[Limit]:
        """Those that can bind: none before them is as low and renews as late."""
        return [
            limit
            for at, limit in enumerate(self.limits)
            if all(limit.msat < other.msat or RANK[limit.period] > RANK[other.period] for other in self.limits[:at])
        ]


class CredentialTree(RuleBasedStateMachine):
    """Credentials are derived, ask, and their requests end, in any order and with crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = SessionBench(replace(SESSION_TERMS, life_ms=400 * DAY_MS))
        self.tree = [Credential(ROOT, verify(KEY, ROOT)[1], ())]
        self.used: Counter[Window] = Counter()
        self.seen: dict[int, tuple[Limit, int]] = {}
        self.held: dict[str, tuple[list[Window], int]] = {}
        self.asked = 0

    @initialize(sats=st.sampled_from([20, 60, 300, 2_000]))
    def funded(self, sats: int) -> None:
        self.bench.fund(sats)

    @rule(pick=picks, msat=limits, period=periods)
    def derives_a_limit(self, pick: int, msat: int, period: str) -> None:
        parent = self._some(pick)
        caveat = f"max_msat_per = {msat}/{period}" if period else f"max_msat = {msat}"
        self._derive(parent, caveat, (*parent.limits, Limit(len(self.tree), msat, period)))

    @rule(ms=st.sampled_from([-1, 0, DAY_MS // 5, 3 * DAY_MS]))
    def an_hour_ends(self, ms: int) -> None:
        hour_ms = LENGTH_MS["hour"]
        self.bench.now_ms += hour_ms - self.bench.now_ms % hour_ms + ms

    @rule(pick=picks, caveat=st.sampled_from(["name = a", "actions = request", "expires_at = 99999999999"]))
    def derives_something_else(self, pick: int, caveat: str) -> None:
        parent = self._some(pick)
        self._derive(parent, caveat, parent.limits)

    def _some(self, pick: int) -> Credential:
        """One of the newest, every other time: most limits stand in those."""
        return self.tree[-1 - pick // 2 % min(2, len(self.tree))] if pick % 2 else self.tree[pick % len(self.tree)]

    def _derive(self, parent: Credential, caveat: str, all_limits: tuple[Limit, ...]) -> None:
        token = appended(parent.token, caveat)
        if any(other.token == token for other in self.tree):
            return  # The same caveat appended to the same credential makes the same one.
        child = Credential(token, verify(KEY, token)[1], all_limits)
        assert len(child.grant.spend_limits) == len(child.counting)
        self.tree.append(child)

    @rule(pick=picks, pauses_ms=st.lists(st.sampled_from([0, 0, DAY_MS // 24, DAY_MS]), min_size=1, max_size=3))
    def asks(self, pick: int, pauses_ms: list[int]) -> None:
        credential = self._some(pick)
        for pause_ms in pauses_ms:
            self.bench.now_ms += pause_ms
            self._ask(credential)

    def _ask(self, credential: Credential) -> None:
        name, before = f"n{self.asked}", self.bench.money()
        self.asked += 1
        reply = self.bench.send(ask(name, by=credential.grant)).reply
        now_ms = self.bench.now_ms
        counts = [limit.window(now_ms) for limit in credential.limits]
        room = [limit.msat - self.used[count] for limit, count in zip(credential.limits, counts, strict=True)]
        if room and min(room) < LEAST:
            assert isinstance(reply, Refusal) and reply.code == "caveat_violated"
            self._renews(reply, [limit for limit, left in zip(credential.limits, room, strict=True) if left < LEAST])
        elif before[0] < LEAST:
            assert isinstance(reply, Refusal) and reply.code == "insufficient_balance"
        else:
            assert reply is None
            amount = self.bench.money()[1] - before[1]
            assert amount == BASE + TOKEN * min((min([before[0], *room]) - BASE) // TOKEN, 1_000)
            self.held[name] = counts, amount
            self._count(counts, amount)
            self.seen = {n: (limit, at_ms) for n, (limit, at_ms) in self.seen.items() if limit.end_ms(at_ms) > now_ms}
            self.seen |= {limit.made: (limit, now_ms) for limit in credential.limits if limit.period}
            return
        assert self.bench.money() == before

    def _renews(self, refusal: Refusal, beyond: list[Limit]) -> None:
        """A refusal says when the last of the budgets renews, unless that would not help."""
        for_good = any(not limit.period or limit.msat < LEAST for limit in beyond)
        last_ms = 0 if for_good else max(limit.end_ms(self.bench.now_ms) for limit in beyond)
        told = refusal.details.get("renewsAt")
        assert (0 if told is None else round(datetime.fromisoformat(told).timestamp() * 1_000)) == last_ms
        assert refusal.retry_after_s == (None if for_good else -(-(last_ms - self.bench.now_ms) // 1_000))

    @precondition(lambda self: self.held)
    @rule(pick=picks, judged_only=st.booleans())
    def is_answered(self, pick: int, judged_only: bool) -> None:
        name = list(self.held)[pick % len(self.held)]
        counts, amount = self.held.pop(name)
        self.bench.answer(rejected() if judged_only else completed(), name)
        cost = min(amount, JUDGED if judged_only else WORKED)
        self._count(counts, cost - amount)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def fails(self, pick: int) -> None:
        name = list(self.held)[pick % len(self.held)]
        counts, amount = self.held.pop(name)
        self.bench.fail(f"request:ask:{name}", permanent=True)
        self._count(counts, -amount)

    @rule(pick=picks)
    def crashes(self, pick: int) -> None:
        self.bench.crash(pick % (len(self.bench.journal) + 1))
        for counts, amount in self.held.values():
            self._count(counts, -amount)
        self.held.clear()

    def _count(self, counts: list[Window], amount: int) -> None:
        for count in counts:
            self.used[count] += amount

    @invariant()
    def no_limit_is_exceeded_in_any_window(self) -> None:
        most = {limit.made: limit.msat for credential in self.tree for limit in credential.limits}
        for (made, _), used in self.used.items():
            assert 0 <= used <= most[made]

    @invariant()
    def what_is_counted_is_what_can_bind_and_was_used(self) -> None:
        """Counts of windows that were over at the last request are gone."""
        if self.bench.session is None:
            return
        chains = [credential.counting for credential in self.tree]
        names = {
            made.made: limit.counter
            for credential in self.tree
            for made, limit in zip(credential.counting, credential.grant.spend_limits, strict=True)
        }
        assert len({*names.values()}) == len(names), "two limits share a count"
        counts = {made: self.used[made, 0] for made in names}
        counts |= {made: self.used[limit.window(at_ms)] for made, (limit, at_ms) in self.seen.items() if made in names}
        used = {made for made, msat in counts.items() if msat}
        state = self.bench.state
        assert {name: amount.value for name, amount in state.counters.items()} == {
            names[made]: counts[made] for made in used
        }
        assert {*state.windows} == {names[made] for made in used & {*self.seen}}
        below: dict[int, set[int]] = {made: set() for made in names}
        for chain in chains:
            for at, limit in enumerate(chain):
                below[limit.made] |= used & {later.made for later in chain[at + 1 :]}
        assert state.beneath == {names[made]: len(found) for made, found in below.items() if found}


def test_each_limit_of_each_credential_holds_for_all_that_are_derived_from_it() -> None:
    run_state_machine_as_test(
        CredentialTree, settings=settings(max_examples=100, stateful_step_count=30, deadline=None)
    )
