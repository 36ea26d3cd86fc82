"""Room for bodies: never more than there is, nobody waits for ever, and nothing leaks."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from satmeter.actors.domain.errors import Code, RefusedError
from satmeter.http.edge.networks import Origin
from satmeter.http.request.body_room import COUNTED_BYTES, BodyRoom, Reading, keep_room, reading_of, take_room
from tests.helpers.patience import PATIENCE_S

UNIT = 2 * COUNTED_BYTES


def room_of(units: int, largest: int = 1, **options: Any) -> BodyRoom:
    return BodyRoom(lambda scope: Origin(*scope["from"]), units * UNIT, largest * UNIT, **options)


def request_of(room: BodyRoom, address: str = "a") -> Request:
    # `a/x` is an address of the network x.
    near, _, wide = address.partition("/")
    scope: dict[str, Any] = {"type": "http", "headers": [], "from": (near, wide)}
    room.enter(scope)
    return Request(scope)


async def take(room: BodyRoom, units: int = 1, address: str = "a") -> Request:
    request = request_of(room, address)
    await take_room(request, units * UNIT)
    return request


async def test_a_request_gives_back_what_it_took() -> None:
    room = room_of(8)
    request = await take(room, 2)
    assert room.used_bytes == 2 * UNIT
    room.leave(request.scope)
    room.leave(request.scope)
    assert room.used_bytes == 0


async def test_small_bodies_are_not_counted() -> None:
    room = room_of(8)
    await take_room(request_of(room), COUNTED_BYTES)
    assert room.used_bytes == 0


async def test_one_address_takes_a_quarter_and_is_told_so_by_a_429() -> None:
    room = room_of(8, patience_s=0.01)
    await take(room), await take(room)
    with pytest.raises(RefusedError) as caught:
        await take(room)
    assert caught.value.refusal.code is Code.RATE_LIMITED and caught.value.refusal.retry_after_s
    await take(room, address="b")
    assert room.used_bytes == 3 * UNIT


async def test_the_addresses_of_one_network_take_half() -> None:
    room = room_of(8, patience_s=0.01)
    for address in ("a/x", "a/x", "b/x", "b/x"):
        await take(room, address=address)
    with pytest.raises(RefusedError) as caught:
        await take(room, address="c/x")
    assert caught.value.refusal.code is Code.RATE_LIMITED
    requests = [await take(room, address="d/y"), await take(room, address="e")]
    for request in requests:
        room.leave(request.scope)
    assert room.used_bytes == 4 * UNIT


async def test_without_rate_limits_one_address_takes_all() -> None:
    room = room_of(4, rate_limits=False)
    await take(room, 4)
    assert room.used_bytes == 4 * UNIT


async def test_a_full_room_is_a_503_once_patience_is_over() -> None:
    room = room_of(4, patience_s=0.01)
    for address in "abcd":
        await take(room, address=address)
    with pytest.raises(RefusedError) as caught:
        await take(room, address="e")
    assert caught.value.refusal.code is Code.OVERLOADED and caught.value.refusal.retry_after_s
    assert room.used_bytes == 4 * UNIT


async def test_the_first_that_waits_is_let_in_first_also_if_it_is_the_largest() -> None:
    room = room_of(4, largest=4, patience_s=60)
    first = await take(room, 3)
    large = asyncio.create_task(take(room, 4, "b"))
    await asyncio.sleep(0)
    small = asyncio.create_task(take(room, 1, "c"))
    await asyncio.sleep(0)
    assert not large.done() and not small.done()
    room.leave(first.scope)
    room.leave((await large).scope)
    await small
    assert room.used_bytes == UNIT


async def test_one_address_that_waits_for_itself_does_not_hold_up_another() -> None:
    room = room_of(8, patience_s=60)
    held = [await take(room), await take(room)]
    waits = asyncio.create_task(take(room))
    await asyncio.sleep(0)
    await take(room, address="b")
    assert not waits.done()
    room.leave(held[0].scope)
    await waits
    assert room.used_bytes == 3 * UNIT


async def test_one_address_that_waits_for_itself_holds_up_no_other_in_a_room_that_is_nearly_full() -> None:
    room = room_of(16, largest=4, patience_s=60)
    for address in "aabbcc":
        await take(room, 2, address)
    await take(room, 3, "d")
    waits = asyncio.create_task(take(room, 4, "a"))
    await asyncio.sleep(0)
    other = asyncio.create_task(take(room, address="e"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert other.done() and not waits.done()
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)


async def test_a_body_that_is_smaller_than_its_room_gives_the_rest_back() -> None:
    room = room_of(4, largest=4, patience_s=60)
    request = await take(room, 4)
    waits = asyncio.create_task(take(room, 3, "b"))
    await asyncio.sleep(0)
    keep_room(request, UNIT)
    await waits
    assert room.used_bytes == 4 * UNIT
    keep_room(request, 2 * UNIT)
    keep_room(request, COUNTED_BYTES)
    assert room.used_bytes == 3 * UNIT
    room.leave(request.scope)
    assert room.used_bytes == 3 * UNIT


async def test_one_that_is_let_in_and_cancelled_at_once_leaves_nothing() -> None:
    room = room_of(4, largest=4, patience_s=60)
    first = await take(room, 4)
    waits = asyncio.create_task(take(room, 4, "b"))
    await asyncio.sleep(0)
    room.leave(first.scope)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    assert room.used_bytes == 0
    await take(room, 4, "c")


class Deadline:
    """The time-out of a body that is being read."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def expired(self) -> bool:
        return self.over.is_set()

    def reschedule(self, when: float | None) -> None:
        self.over.set()


async def read(room: BodyRoom, units: int, address: str, came: list[tuple[float, int]]) -> bool:
    """Read a body of which so much came at these times from now; return whether it was ended."""
    request = await take(room, units, address)
    deadline, loop = Deadline(), asyncio.get_running_loop()
    with reading_of(request, cast(Any, deadline)) as reading:
        assert reading is not None
        for after_s, size_bytes in came:
            reading.add(size_bytes, loop.time() + after_s)
        await deadline.over.wait()
        room.leave(request.scope)
        return reading.ended


async def test_slow_bodies_of_four_addresses_do_not_lock_out_a_fifth() -> None:
    room = room_of(4, patience_s=60, ends_slow_after_s=0.01)
    slow = [asyncio.create_task(read(room, 1, address, [(2.1, 10)])) for address in "abcd"]
    await asyncio.sleep(0)
    await asyncio.wait_for(take(room, address="e"), PATIENCE_S)
    ended = [task for task in slow if task.done()]
    assert [await task for task in ended] == [True]
    for task in slow:
        task.cancel()


async def test_the_slow_bodies_of_an_address_make_room_for_its_others() -> None:
    room = room_of(8, patience_s=60, ends_slow_after_s=0.01)
    slow = [asyncio.create_task(read(room, 1, "a", [(2.1, 10)])) for _ in range(2)]
    other = asyncio.create_task(read(room, 1, "b", [(2.1, 5)]))
    await asyncio.sleep(0)
    await asyncio.wait_for(take(room, address="a"), PATIENCE_S)
    assert [task.done() for task in (*slow, other)].count(True) == 1 and not other.done()
    for task in (*slow, other):
        task.cancel()


async def test_a_body_that_comes_fast_is_not_ended_for_another() -> None:
    room = room_of(4, largest=4, patience_s=0.1, ends_slow_after_s=0.01)
    fast = asyncio.create_task(read(room, 4, "a", [(2.1, 10 * UNIT)]))
    await asyncio.sleep(0)
    with pytest.raises(RefusedError):
        await take(room, address="b")
    assert not fast.done()
    fast.cancel()


def test_a_client_that_falls_silent_becomes_slow() -> None:
    reading = Reading(cast(Any, None), cast(Any, None), 0.0)
    reading.add(100 * UNIT, 2.0)
    assert reading.rate(3.0) == 50 * UNIT
    assert reading.rate(6.1) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.booleans()), max_size=40))
def test_whatever_comes_and_goes_no_more_is_taken_than_there_is(steps: list[tuple[str, int, bool]]) -> None:
    async def play() -> None:
        room = room_of(8, largest=3, patience_s=60)
        tasks: list[asyncio.Task[Request]] = []
        for address, units, leaves in steps:
            tasks.append(asyncio.create_task(take(room, units, address)))
            await asyncio.sleep(0)
            if leaves:
                # The newest gives up, or the oldest that is in leaves.
                done = [task for task in tasks if task.done()]
                if done:
                    room.leave(done[0].result().scope)
                    tasks.remove(done[0])
                else:
                    tasks.pop().cancel()
                await asyncio.sleep(0)
            assert 0 <= room.used_bytes <= 8 * UNIT
        for _ in range(len(tasks)):
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                room.leave(task.result().scope)
                tasks.remove(task)
            if not tasks:
                break
        assert room.used_bytes == 0

    asyncio.run(play())
