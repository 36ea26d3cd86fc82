"""Old journals fold to what they were recorded with, for good."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec.inspect import StructType, type_info

from satmeter.actors.adapters.redis.format import FORMAT
from satmeter.actors.domain.behaviour import Behaviour, UnknownEventError
from satmeter.actors.domain.job.behaviour import JobBehaviour
from satmeter.actors.domain.job.state import JobEvent
from satmeter.actors.domain.session.behaviour import SessionBehaviour
from satmeter.actors.domain.session.state import SessionEvent
from satmeter.actors.domain.sums import hour_of
from satmeter.scripts.audit.books import books_of
from satmeter.scripts.audit.hours import HourBook
from tests.helpers.jobs import JOB_TERMS
from tests.helpers.sessions import SESSION_TERMS
from tests.replay.stories import FOLDER, STORIES, summary, told

HISTORIES = sorted(FOLDER.glob("*.jsonl"))
BEHAVIOURS: dict[str, Behaviour[Any]] = {"job": JobBehaviour(JOB_TERMS), "ses": SessionBehaviour(SESSION_TERMS)}
RECORDED_FORMATS = FOLDER / "formats.json"


def read(path: Path) -> tuple[str, list[bytes], dict[str, Any]]:
    """The actor, its events, and what they must fold to."""
    first, *events, last = path.read_bytes().splitlines()
    return msgspec.json.decode(first)["actor_id"], events, msgspec.json.decode(last)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_a_stored_history_folds_to_its_recorded_state(path: Path) -> None:
    actor_id, events, recorded = read(path)
    behaviour = BEHAVIOURS[actor_id.partition("_")[0]]
    state = None
    for data in events:
        state = behaviour.evolve(actor_id, state, behaviour.decode_event(data))
        # A snapshot taken anywhere in between spares the events before it, and nothing else.
        state = behaviour.decode_state(behaviour.encode_state(state))
    assert summary(state) == recorded


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_the_auditor_comes_to_the_same_books(path: Path) -> None:
    actor_id, events, recorded = read(path)
    books, behaviour, state = books_of(actor_id), BEHAVIOURS[actor_id.partition("_")[0]], None
    for data in events:
        books.apply(msgspec.json.decode(data))
        state = behaviour.evolve(actor_id, state, behaviour.decode_event(data))
        assert behaviour.liability(state).value == books.liability
    kept = recorded["books"]
    assert (books.spent, books.held, books.owed) == (kept["spent"], kept["held"], kept["owed"])
    assert (books.pending, books.refunded) == (kept["pending"], kept["refunded"])
    assert books.received == kept.get("deposited", kept.get("received"))
    assert books.available == kept.get("balance", 0)


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_the_auditor_comes_to_the_same_hourly_sums(path: Path) -> None:
    actor_id, events, _ = read(path)
    books, book, behaviour, state = books_of(actor_id), HourBook(), BEHAVIOURS[actor_id.partition("_")[0]], None
    found: Counter[tuple[int, str]] = Counter()
    for data in events:
        event, before = behaviour.decode_event(data), state
        state = behaviour.evolve(actor_id, before, event)
        for name, amount in behaviour.sums(before, [event], state).items():
            assert amount > 0
            found[hour_of([event]), name] += amount
        book.take(msgspec.json.decode(data), books)
    assert found == book.sums
    if not books.received:
        assert not found, "the journal of an unpaid actor expires, and its sums could not be told again"


def test_every_story_is_frozen_and_every_history_has_its_story() -> None:
    assert {path.stem for path in HISTORIES} == STORIES.keys()


@pytest.mark.parametrize("name", STORIES)
def test_the_stories_still_end_as_they_did(name: str) -> None:
    """By today's code: events may be put otherwise than they were, but what becomes of the money may not."""
    *_, last = told(STORIES[name]).splitlines()
    assert msgspec.json.decode(last) == read(FOLDER / f"{name}.jsonl")[2]


def test_every_event_of_the_domain_occurs_in_a_stored_history() -> None:
    for prefix, union in (("job", JobEvent), ("ses", SessionEvent)):
        stored = {
            msgspec.json.decode(data)["type"]
            for path in HISTORIES
            for actor_id, events, _ in [read(path)]
            if actor_id.startswith(prefix)
            for data in events
        }
        assert stored == {kind.__struct_config__.tag for kind in get_args(union)}


def _shapes() -> dict[str, list[str]]:
    """The fields of every event, and of every structure in one, by name."""
    found: dict[str, list[str]] = {}

    def visit(node: Any) -> None:
        if isinstance(node, StructType):
            name = str(node.tag or node.cls.__name__)
            if name not in found:
                found[name] = sorted(field.encode_name for field in node.fields)
                for field in node.fields:
                    visit(field.type)
        for name in ("types", "item_types"):
            for inner in getattr(node, name, ()):
                visit(inner)
        for name in ("item_type", "key_type", "value_type"):
            if (inner := getattr(node, name, None)) is not None:
                visit(inner)

    visit(type_info(JobEvent | SessionEvent))
    return dict(sorted(found.items()))


def test_what_journals_hold_changes_only_with_the_format_of_the_store() -> None:
    """An older version must not start over events that it does not know, or drop fields of those that it does.

    When this fails, raise `FORMAT` and record its shapes here under the new number, beside the old ones.
    """
    recorded = msgspec.json.decode(RECORDED_FORMATS.read_bytes())
    assert int(max(recorded, key=int)) == FORMAT
    assert recorded[str(FORMAT)] == _shapes()


@pytest.mark.parametrize("kind", ["job", "ses"])
def test_an_event_of_another_version_is_never_guessed(kind: str) -> None:
    with pytest.raises(UnknownEventError, match="can't read"):
        BEHAVIOURS[kind].decode_event(b'{"type":"teleported","at_ms":1}')
