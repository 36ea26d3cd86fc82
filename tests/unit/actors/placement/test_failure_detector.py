"""Replacement of the oracle and the treasury, and the cases in which Ray is left to start them again."""

from __future__ import annotations

import pytest

from satmeter.actors.placement.failure_detector import FailureDetector, Liveness, Replacement


class Looks:
    """A replacement that is decided upon once a second."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.replacement = Replacement(lambda: self.now_s)

    def replaced(self, *seen: Liveness) -> list[bool]:
        """Return the verdict on each of these in turn."""
        found = []
        for liveness in seen:
            self.now_s += 1
            found.append(self.replacement.replaces(liveness))
        return found

    def until_replaced(self, liveness: Liveness) -> int:
        """Count how many times in a row it has to be seen."""
        return next(count for count in range(1, 1_000) if self.replaced(liveness) == [True])


@pytest.fixture
def looks() -> Looks:
    looks = Looks()
    assert looks.replaced(Liveness.SERVES) == [False]
    return looks


def test_one_that_is_silent_twice_in_a_row_is_replaced(looks: Looks) -> None:
    assert looks.replaced(Liveness.SILENT, Liveness.SERVES, Liveness.SILENT, Liveness.SILENT) == [
        False,
        False,
        False,
        True,
    ]


def test_one_that_was_killed_is_left_to_ray_which_is_already_starting_it_again(looks: Looks) -> None:
    """After SIGKILL there is no answer, then Ray's word, then a process that has yet to find its store."""
    seen = [Liveness.SILENT, Liveness.COMING, Liveness.COMING, Liveness.SILENT, Liveness.SILENT, Liveness.SERVES]
    assert looks.replaced(*seen) == [False] * len(seen)
    # And from then on it is watched as before.
    assert looks.until_replaced(Liveness.SILENT) == 2


def test_one_that_ray_does_not_get_started_is_replaced_after_a_minute(looks: Looks) -> None:
    assert looks.until_replaced(Liveness.COMING) == pytest.approx(60, abs=2)


def test_one_that_came_and_hangs_is_replaced(looks: Looks) -> None:
    looks.replaced(Liveness.COMING)
    assert 2 < looks.until_replaced(Liveness.SILENT) < 20


def test_one_that_was_just_started_may_take_its_time(looks: Looks) -> None:
    assert looks.replaced(Liveness.ABSENT) == [True]
    looks.replacement.begun()
    assert 2 < looks.until_replaced(Liveness.SILENT) < 20


def test_one_that_runs_where_no_server_is_moves_at_once(looks: Looks) -> None:
    assert looks.replaced(Liveness.ELSEWHERE) == [True]


def test_a_process_is_suspected_after_one_missed_answer_and_silent_after_two() -> None:
    detector = FailureDetector()
    assert not detector.suspected and not detector.silent
    assert not detector.missed() and detector.suspected and not detector.silent
    assert detector.missed() and detector.silent and not detector.suspected
    # It is silent since the second, and stays so.
    assert not detector.missed() and detector.silent
    detector.answered()
    assert not detector.suspected and not detector.silent


def test_what_is_missed_at_the_start_does_not_count() -> None:
    detector = FailureDetector()
    detector.spare(3)
    assert [detector.missed() for _ in range(5)] == [False, False, False, False, True]
