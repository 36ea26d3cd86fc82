"""Laws of idempotency keys of any credentials of a session, in any order, against a list kept by hand."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from satmeter.actors.domain.errors import Code, Refusal
from satmeter.actors.domain.session.messages import RequestAnswer
from tests.helpers.credentials import grant_of, keyed
from tests.helpers.sessions import SessionBench, ask, rejected

# A tree: each one's caveats begin with those of the ones that it was derived from.
CHAINS = ((), ("name = a",), ("name = a", "name = b"), ("name = a", "name = c"), ("name = d",), ("name = a",) * 2)
GRANTS = [grant_of(*chain) for chain in CHAINS]


class Step(NamedTuple):
    """A request: by which credential, under which key, with which body. `ends`: how many under way end after it."""

    by: int
    key: str
    body: str
    ends: int


steps = st.builds(
    Step, st.integers(0, len(CHAINS) - 1), st.sampled_from("kl"), st.sampled_from("xxy"), st.sampled_from([0, 1, 1, 9])
)


def above(one: int, other: int) -> bool:
    """Return whether the second was derived from the first, or is the same."""
    return CHAINS[other][: len(CHAINS[one])] == CHAINS[one]


class Books:
    """Purchases, kept by hand: number of the request, buyer, key and body; and whether it is under way."""

    def __init__(self) -> None:
        self.bought: list[tuple[int, Step]] = []
        self.ended: list[int] = []

    def expected(self, step: Step) -> int | None:
        """The request whose answer this one gets; -1 for a conflict, None for one of its own."""
        same_key = [(number, other) for number, other in self.bought if other.key == step.key]
        for number, other in same_key:
            if other.by == step.by:
                return number if other.body == step.body else -1
        beneath = [(number, other) for number, other in same_key if above(step.by, other.by)]
        ended = [(number, other) for number in self.ended for at, other in beneath if at == number]
        # Of what ended, the last: one answer for a key is remembered. Then what is under way, of which any does.
        if ended and ended[-1][1].body == step.body:
            return ended[-1][0]
        running = [number for number, other in beneath if number not in self.ended and other.body == step.body]
        return min(running, default=None)


@settings(max_examples=200)
@given(st.lists(steps, max_size=20))
def test_an_answer_is_its_buyer_s_and_that_of_those_above_and_each_is_charged_once(taken: list[Step]) -> None:
    bench, books = SessionBench(), Books()
    bench.fund(10_000)
    replies: dict[int, RequestAnswer] = {}
    topics: dict[int, str] = {}
    for number, step in enumerate(taken):
        command = keyed(ask(step.key, digest=step.body, max_tokens=100), GRANTS[step.by])
        decision = bench.send(replace(command, request_id=f"req_{number}"))
        expected = books.expected(step)
        if expected == -1:
            assert isinstance(decision.reply, Refusal) and decision.reply.code is Code.IDEMPOTENCY_CONFLICT
        elif expected is None:
            assert decision.events and decision.wait_for
            books.bought.append((number, step))
            topics[number] = decision.wait_for
        elif expected in replies:
            assert decision.reply == replies[expected] and decision.events == ()
        else:
            assert decision.wait_for == topics[expected] and decision.events == ()
        for running in [at for at in reversed(topics) if at not in replies][: step.ends]:
            (reply,) = bench.finish(topics[running], rejected()).answers.values()
            assert isinstance(reply, RequestAnswer) and reply.request_id == f"req_{running}"
            replies[running] = reply
            books.ended.append(running)
    assert bench.money()[2] == 3_080 * len(replies)
