"""Any tree of credentials that spend from one session: each `max_msat` in a chain holds, for all beneath it together.

The account is kept by hand, for every caveat of every chain, also for those that can't bind. The macaroons are made by
pymacaroons.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

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

from satmeter.actors.domain.credentials.caveats import Grant
from satmeter.actors.domain.credentials.macaroon import verify
from satmeter.actors.domain.errors import Refusal
from tests.helpers.credentials import KEY, ROOT, appended
from tests.helpers.sessions import SessionBench, ask, completed, rejected

# What the smallest useful answer to the tests' request can cost, and each token more of it.
BASE, TOKEN, LEAST = 4_536, 14, 4_536 + 1_400
JUDGED, WORKED = 3_080, 3_080 + 3_780

picks = st.integers(0, 1_000)
# Few of them, so that equal, wider and narrower ones meet in a chain.
limits = st.sampled_from([0, 5_000, 6_000, 9_000, 9_000, 20_000, 40_000, 10**15])


@dataclass(frozen=True)
class Credential:
    """One of the tree. `limits`: each `max_msat` of its chain, by the number of the credential that it made."""

    token: str
    grant: Grant
    limits: tuple[tuple[int, int], ...]

    @property
    def counting(self) -> list[int]:
        """Those that are narrower than all before them."""
        return [n for at, (n, limit) in enumerate(self.limits) if all(limit < other for _, other in self.limits[:at])]


class CredentialTree(RuleBasedStateMachine):
    """Credentials are derived, ask, and their requests end, in any order and with crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = SessionBench()
        self.tree = [Credential(ROOT, verify(KEY, ROOT)[1], ())]
        self.used: Counter[int] = Counter()
        self.held: dict[str, tuple[Credential, int]] = {}
        self.asked = 0

    @initialize(sats=st.integers(20, 300))
    def funded(self, sats: int) -> None:
        self.bench.fund(sats)

    @rule(pick=picks, limit=limits)
    def derives_a_limit(self, pick: int, limit: int) -> None:
        parent = self.tree[pick % len(self.tree)]
        made = (len(self.tree), limit)
        self._derive(parent, f"max_msat = {limit}", (*parent.limits, made))

    @rule(pick=picks, caveat=st.sampled_from(["name = a", "actions = request", "expires_at = 99999999999"]))
    def derives_something_else(self, pick: int, caveat: str) -> None:
        parent = self.tree[pick % len(self.tree)]
        self._derive(parent, caveat, parent.limits)

    def _derive(self, parent: Credential, caveat: str, all_limits: tuple[tuple[int, int], ...]) -> None:
        token = appended(parent.token, caveat)
        if any(other.token == token for other in self.tree):
            return  # The same caveat appended to the same credential makes the same one.
        child = Credential(token, verify(KEY, token)[1], all_limits)
        assert len(child.grant.spend_limits) == len(child.counting)
        self.tree.append(child)

    @rule(pick=picks)
    def asks(self, pick: int) -> None:
        credential = self.tree[pick % len(self.tree)]
        name, before = f"n{self.asked}", self.bench.money()
        self.asked += 1
        reply = self.bench.send(ask(name, by=credential.grant)).reply
        room = [limit - self.used[made] for made, limit in credential.limits]
        if room and min(room) < LEAST:
            assert isinstance(reply, Refusal) and reply.code == "caveat_violated"
        elif before[0] < LEAST:
            assert isinstance(reply, Refusal) and reply.code == "insufficient_balance"
        else:
            assert reply is None
            amount = self.bench.money()[1] - before[1]
            assert amount == BASE + TOKEN * min((min([before[0], *room]) - BASE) // TOKEN, 1_000)
            self.held[name] = credential, amount
            self._count(credential, amount)
            return
        assert self.bench.money() == before

    @precondition(lambda self: self.held)
    @rule(pick=picks, judged_only=st.booleans())
    def is_answered(self, pick: int, judged_only: bool) -> None:
        name = list(self.held)[pick % len(self.held)]
        credential, amount = self.held.pop(name)
        self.bench.answer(rejected() if judged_only else completed(), name)
        cost = min(amount, JUDGED if judged_only else WORKED)
        self._count(credential, cost - amount)

    @precondition(lambda self: self.held)
    @rule(pick=picks)
    def fails(self, pick: int) -> None:
        name = list(self.held)[pick % len(self.held)]
        credential, amount = self.held.pop(name)
        self.bench.fail(f"request:ask:{name}", permanent=True)
        self._count(credential, -amount)

    @rule(pick=picks)
    def crashes(self, pick: int) -> None:
        self.bench.crash(pick % (len(self.bench.journal) + 1))
        for credential, amount in self.held.values():
            self._count(credential, -amount)
        self.held.clear()

    def _count(self, credential: Credential, amount: int) -> None:
        for made, _ in credential.limits:
            self.used[made] += amount

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        for credential in self.tree:
            for made, limit in credential.limits:
                assert 0 <= self.used[made] <= limit

    @invariant()
    def what_is_counted_is_what_can_bind_and_was_used(self) -> None:
        if self.bench.session is None:
            return
        chains = [credential.counting for credential in self.tree]
        names = {
            made: limit.counter
            for credential in self.tree
            for made, limit in zip(credential.counting, credential.grant.spend_limits, strict=True)
        }
        assert len({*names.values()}) == len(names), "two limits share a count"
        used = {made for made in names if self.used[made]}
        assert {name: amount.value for name, amount in self.bench.state.counters.items()} == {
            names[made]: self.used[made] for made in used
        }
        below: dict[int, set[int]] = {made: set() for made in names}
        for chain in chains:
            for at, made in enumerate(chain):
                below[made] |= used & set(chain[at + 1 :])
        assert self.bench.state.beneath == {names[made]: len(found) for made, found in below.items() if found}


def test_each_limit_of_each_credential_holds_for_all_that_are_derived_from_it() -> None:
    run_state_machine_as_test(CredentialTree, settings=settings(max_examples=40, stateful_step_count=25, deadline=None))
