"""Commands that go over the wire: each declares what it is answered with, and all of that can be answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from satmeter.actors.domain.behaviour import Command, Done, Failed, TakeUp, Wake
from satmeter.actors.domain.job.state import GetJob, JobView
from satmeter.actors.domain.llm.answers import Held, TextDelta
from satmeter.actors.domain.session.messages import Ask, RequestAnswer
from satmeter.actors.messages import WireCommand, WireReply, answer_types

# What a host says to its own actors.
OWN = {Wake, TakeUp, Done, Failed}


def kinds_of(kind: type[Command]) -> Iterator[type[Command]]:
    for sub in kind.__subclasses__():
        if sub.__module__.startswith("satmeter."):
            yield sub
        yield from kinds_of(sub)


def test_all_commands_but_the_hosts_own_can_be_sent() -> None:
    assert set(kinds_of(Command)) - OWN == set(get_args(WireCommand))


@pytest.mark.parametrize("kind", get_args(WireCommand), ids=lambda kind: str(kind.__name__))
def test_what_a_command_declares_can_be_answered(kind: type[Command]) -> None:
    reply, parts = answer_types(kind)
    assert {*(get_args(reply) or (reply,)), *parts} <= set(get_args(WireReply))


def test_parts_are_declared_beside_the_reply() -> None:
    assert answer_types(Ask) == (RequestAnswer, (Held, TextDelta))
    assert answer_types(GetJob) == (JobView, ())
