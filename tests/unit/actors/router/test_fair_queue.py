"""The order in which messages go to a host."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.job.state import GetJob
from satmeter.actors.messages import Call, Cancel
from satmeter.actors.router.fair_queue import FairQueue


def call(number: int, actor_id: str) -> Call:
    return Call(number, actor_id, GetJob())


def test_actors_take_turns_so_that_one_with_much_to_say_does_not_hold_up_the_others() -> None:
    outgoing = FairQueue([call(1, "a"), call(2, "a"), call(3, "a"), call(4, "b"), call(5, "c"), call(6, "c")])
    assert [message.call_id for message in outgoing.take(4)] == [1, 4, 5, 2]
    outgoing.put("d", call(7, "d"))
    assert [message.call_id for message in outgoing.take(10)] == [6, 3, 7]
    assert outgoing.take(10) == [] and len(outgoing) == 0


def test_a_cancel_goes_out_after_its_call() -> None:
    outgoing = FairQueue()
    outgoing.put("a", call(1, "a"))
    outgoing.put("a", Cancel(1))
    outgoing.put("b", call(2, "b"))
    assert outgoing.take(10) == [call(1, "a"), call(2, "b"), Cancel(1)]


@given(st.lists(st.sampled_from("abcde"), max_size=40), st.lists(st.integers(1, 7), min_size=40, max_size=40))
def test_nothing_is_lost_and_each_actor_keeps_its_order(actors: list[str], sizes: list[int]) -> None:
    outgoing, taken = FairQueue(), []
    for number, (actor_id, size) in enumerate(zip(actors, sizes, strict=False)):
        outgoing.put(actor_id, call(number, actor_id))
        if number % 3 == 0:
            taken += outgoing.take(size)
        assert len(outgoing) == number + 1 - len(taken)
    while batch := outgoing.take(5):
        taken += batch
    for actor_id in set(actors):
        own = [message.call_id for message in taken if isinstance(message, Call) and message.actor_id == actor_id]
        assert own == [number for number, name in enumerate(actors) if name == actor_id]
