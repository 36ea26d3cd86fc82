"""A dispatcher: calls that wait while their partition comes to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from satmeter.actors.host.dispatcher import Dispatcher
from satmeter.actors.host.partitions import Partitions
from satmeter.actors.messages import Call, Cancel
from satmeter.actors.partitioning import partition_of
from tests.helpers.sessions import SESSION_ID, ask

PLACE = partition_of(SESSION_ID)


class _Claims:
    """Journal in which a host may claim all."""

    async def claim(self, partitions: Collection[int], host_id: str) -> Mapping[int, int]:
        return dict.fromkeys(partitions, 1)


class _Busy:
    """Actors that never come to rest."""

    def busy_partitions(self, partitions: Collection[int]) -> Collection[int]:
        return [*partitions]

    def drop_partition(self, partition: int) -> None:
        pass


async def test_a_call_whose_caller_left_while_it_waited_is_not_begun() -> None:
    """The caller could not leave again: where an actor has a process, its model call would run to the end, and be paid.

    Nothing was begun for the caller, so nothing is owed to it.
    """
    journal: Any = _Claims()
    partitions, delivered = Partitions("host", journal, _Busy()), list[int]()
    dispatcher = Dispatcher(partitions, {"ses"}, lambda call, _: delivered.append(call.call_id))
    await partitions.claim([PLACE])
    # With two seconds of patience, nothing new is taken up.
    partitions.give([PLACE], 2.0)
    await dispatcher.submit("queue", [Call(1, SESSION_ID, ask("a")), Call(2, SESSION_ID, ask("b"))])
    await dispatcher.submit("queue", [Cancel(1)])
    rest = partitions.rest_of(PLACE)
    assert rest is not None
    taken_up = asyncio.Event()
    rest.add_done_callback(lambda _: taken_up.set())
    partitions.keep([PLACE])
    await taken_up.wait()
    assert delivered == [2]
    partitions.cancel()
