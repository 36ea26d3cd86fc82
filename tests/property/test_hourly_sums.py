"""Hourly sums don't depend on how events are put together in writes: the books and the counts add up the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.behaviour import Behaviour
from satmeter.actors.domain.job.behaviour import JobBehaviour
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.scripts.audit.books import books_of
from satmeter.scripts.audit.hours import HourBook
from tests.helpers.jobs import JOB_TERMS
from tests.helpers.sessions import SESSION_TERMS
from tests.replay.stories import STORIES, told

BEHAVIOURS: dict[str, Behaviour[Any]] = {"job": JobBehaviour(JOB_TERMS), "ses": SessionBehaviour(SESSION_TERMS)}


@given(st.sampled_from(sorted(STORIES)), st.data())
def test_events_in_one_write_add_the_same_as_one_by_one(name: str, data: st.DataObject) -> None:
    first, *lines, _ = told(STORIES[name]).splitlines()
    actor_id = msgspec.json.decode(first)["actor_id"]
    behaviour = BEHAVIOURS[actor_id.partition("_")[0]]
    events = [behaviour.decode_event(line) for line in lines]
    found: Counter[str] = Counter()
    before, number = None, 0
    while number < len(events):
        end = data.draw(st.integers(number + 1, len(events)))
        after = before
        for event in events[number:end]:
            after = behaviour.evolve(actor_id, after, event)
        found.update(behaviour.sums(before, events[number:end], after))
        before, number = after, end
    books, book, due = books_of(actor_id), HourBook(), Counter[str]()
    for line in lines:
        book.take(msgspec.json.decode(line), books)
    for (_, each), amount in book.sums.items():
        due[each] += amount
    assert found == due
    charged = due["charged_msat"] - due["returned_msat"] + due["routing_msat"]
    assert (due["received_msat"], charged, due["refunded_msat"]) == (books.received, books.spent, books.refunded)
