"""Stall detector: a process that stood still verifies what it owns before it takes further calls."""

from __future__ import annotations

from satmeter.actors.host.stall_detector import StallDetector
from satmeter.actors.ports import TransientError


class Stalling:
    """Detector under a clock that a test moves on. `verified`: how often it verified; `down`: the store is away."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.verified = 0
        self.down = False
        self.detector = StallDetector(self._verify, lambda: self.now_s)

    async def _verify(self) -> None:
        self.verified += 1
        if self.down:
            raise TransientError("away")


async def test_a_process_that_did_not_stand_still_verifies_nothing() -> None:
    stalling = Stalling()
    stalling.now_s += 2.5
    await stalling.detector.verify_after_stall()
    assert stalling.verified == 0


async def test_after_a_stall_it_verifies_once() -> None:
    stalling = Stalling()
    stalling.now_s += 2.6
    await stalling.detector.verify_after_stall()
    await stalling.detector.verify_after_stall()
    assert stalling.verified == 1


async def test_without_the_store_it_verifies_again_at_the_next_call() -> None:
    stalling = Stalling()
    stalling.now_s += 2.6
    stalling.down = True
    await stalling.detector.verify_after_stall()
    stalling.down = False
    await stalling.detector.verify_after_stall()
    assert stalling.verified == 2
