"""The age of a moment by the treasury's own clocks."""

from __future__ import annotations

from satmeter.actors.services.treasury_clock import TreasuryClock


def test_the_longer_age_of_both_clocks_counts() -> None:
    now_ms, uptime_ms = 1_000_000, 500
    clock = TreasuryClock(lambda: now_ms, lambda: uptime_ms)
    began = clock.read()
    assert clock.age_ms(began) == 0
    uptime_ms += 300
    now_ms -= 60_000
    assert clock.age_ms(began) == 300, "the wall clock was set back"
    now_ms += 360_000
    assert clock.age_ms(began) == 300_000, "the machine was suspended without its knowledge"


def test_another_process_can_not_tell() -> None:
    assert TreasuryClock().age_ms(TreasuryClock().read()) is None


def test_the_clocks_of_the_machine_go_forward() -> None:
    clock = TreasuryClock()
    age_ms = clock.age_ms(clock.read())
    assert age_ms is not None and age_ms >= 0
