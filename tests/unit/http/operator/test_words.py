"""Amounts are written so that none looks larger than it is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from satmeter.http.operator import words


@pytest.mark.parametrize(
    ("msat", "text"),
    [
        (0, "0 sats"),
        (999, "999 msat"),
        (-999, "-999 msat"),
        (1_999, "1 sats"),
        (-1_999, "-1 sats"),
        (12_345_678, "12,345 sats"),
    ],
)
def test_sats(msat: int, text: str) -> None:
    assert words.sats(msat) == text


@pytest.mark.parametrize(
    ("msat", "text"),
    [
        (0, "0"),
        (500, "0.5"),
        (-20, "-0.02"),
        (1_500, "1"),
        (9_999_000, "9,999"),
        (12_345_000, "12.3k"),
        (-2_500_000_000, "-2.5M"),
    ],
)
def test_short_sats(msat: int, text: str) -> None:
    assert words.short_sats(msat) == text


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "$0.0000"), (123_456, "$0.0001"), (1_000_000_000, "$1.00"), (1_234_567_890_000, "$1,234.57")]
)
def test_dollars(nano: int, text: str) -> None:
    assert words.dollars(nano) == text


def test_percent() -> None:
    assert [words.percent(*pair) for pair in ((1, 3), (0, 0), (-1, 4))] == ["33.3 %", words.NONE, "-25.0 %"]


def test_times() -> None:
    now = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
    then_ms = int(now.timestamp()) * 1_000
    ages = [words.since(then_ms - 1_000 * seconds, now) for seconds in (-5, 59, 60, 7_200, 86_400)]
    assert ages == ["less than a minute", "less than a minute", "1 minute", "2 hours", "1 day"]
    assert words.at_ms(then_ms) == words.clock(now) == "2026-11-30 12:00 UTC"


def test_an_unknown_reason_is_shown_as_it_is() -> None:
    assert words.reason_of_refusal("new_reason", None) == "new_reason"
    assert words.reason_of_refusal(None, "unreachable") == "The destination's server did not answer, or not well."
    assert "No route" in words.reason_of_refusal(None, None)
    assert words.short_id("job_0123456789abcdef") == "job_012345…"
