"""The parts of the watch: its pace, its memory, and how much it says about outages."""

from __future__ import annotations

from structlog.testing import capture_logs

from satmeter.actors.ports import TransientError
from satmeter.actors.services.watch import Outage, Pacer, Recent


class Clock:
    """A clock that a pause moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    async def pause(self, duration_s: float) -> None:
        self.now_s += duration_s


async def test_callers_that_come_together_go_one_after_the_other() -> None:
    clock = Clock()
    pacer = Pacer(0.5, clock, clock.pause)
    turns = []
    for _ in range(4):
        await pacer.turn()
        turns.append(clock.now_s)
    assert turns == [100.0, 100.5, 101.0, 101.5]


async def test_a_quiet_time_saves_up_no_turns() -> None:
    clock = Clock()
    pacer = Pacer(0.5, clock, clock.pause)
    await pacer.turn()
    clock.now_s += 60
    await pacer.turn()
    await pacer.turn()
    assert clock.now_s == 160.5


def test_the_memory_forgets_the_oldest_and_never_grows() -> None:
    recent = Recent(2)
    for payment_hash in ("a", "b", "b", "c"):
        recent.add(payment_hash)
    assert [payment_hash in recent for payment_hash in ("a", "b", "c")] == [False, True, True]


def test_an_outage_is_told_when_it_begins_and_when_it_ends_and_not_in_between() -> None:
    outage = Outage("node")
    with capture_logs() as logs:
        outage.recovered()
        for _ in range(2):
            for _ in range(5):
                outage.failed(TransientError("down"))
            outage.recovered()
            outage.recovered()
    assert [entry["event"] for entry in logs] == ["node_lost", "node_back"] * 2
    assert logs[0]["reason"] == "down"


def test_of_a_defect_the_place_is_told_and_of_a_node_that_is_down_it_is_not() -> None:
    with capture_logs() as logs:
        defect, down, ended = RuntimeError("may hold a key"), TransientError("down"), None
        for error in (defect, down, ended):
            Outage("node").failed(error)
    assert [(entry["exc_info"], entry["reason"]) for entry in logs] == [(defect, None), (None, "down"), (None, None)]
