"""Known vulnerabilities: what fails, what is accepted for a time, and what was not looked up at all."""

from __future__ import annotations

import stat
from datetime import date
from pathlib import Path

import msgspec
import pytest

from satmeter.scripts.supply_chain.advisories import (
    Accepted,
    Package,
    Report,
    Vulnerability,
    judge,
    looked_up,
    main,
    read_exceptions,
)

ROOT = Path(__file__).parents[4]
TODAY = date(2026, 11, 30)
SOUND, SKIPPED = Package("starlette", "1.10.0"), Package("ray", skip_reason="Dependency not found on PyPI")
FAULTY = Package("urllib3", "2.8.0", [Vulnerability("PYSEC-2026-1", ["CVE-2026-1", "GHSA-a"], ["2.8.1"])])


def accepted(until: date = date(2027, 1, 1), name: str = "GHSA-a", package: str = "urllib3") -> list[Accepted]:
    return [Accepted(name, package, "We never call it.", until)]


def test_an_advisory_fails_with_its_remedy_unless_it_is_accepted_by_one_of_its_names() -> None:
    wrong, notes = judge(Report([SOUND, FAULTY]), [], TODAY)
    assert wrong == [
        "urllib3 2.8.0: PYSEC-2026-1 (fixed in 2.8.1): upgrade it, or accept it in .ci/advisories.toml with a reason"
    ]
    assert notes == []
    wrong, notes = judge(Report([SOUND, FAULTY]), accepted(), TODAY)
    assert wrong == [] and "We never call it." in notes[0]


def test_an_exception_is_of_one_package_and_of_a_time() -> None:
    assert len(judge(Report([FAULTY]), accepted(package="other"), TODAY)[0]) == 1
    wrong, _ = judge(Report([FAULTY]), accepted(date(2026, 11, 29)), TODAY)
    assert wrong == ["GHSA-a was accepted until 2026-11-29: look again"]
    _, notes = judge(Report([SOUND]), accepted(), TODAY)
    assert notes == ["GHSA-a is not reported any more: remove it"]


def test_what_was_not_looked_up_is_told() -> None:
    wrong, notes = judge(Report([SOUND, SKIPPED]), [], TODAY)
    assert wrong == [] and notes == ["ray was not looked up: Dependency not found on PyPI"]
    assert looked_up(Report([SOUND, SKIPPED]))
    assert not looked_up(Report([SKIPPED])) and not looked_up(Report())


def test_the_recorded_exceptions_can_be_read_and_have_reasons() -> None:
    assert all(len(entry.why.split()) > 3 for entry in read_exceptions(ROOT / ".ci" / "advisories.toml"))


def test_an_exception_without_a_reason_or_an_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "advisories.toml"
    path.write_text('[[accepted]]\nid = "a"\npackage = "b"\nwhy = "We never call the function."\nuntil = 2027-01-31\n')
    (entry,) = read_exceptions(path)
    assert entry.until == date(2027, 1, 31)
    for line in ('[[accepted]]\nid = "a"\npackage = "b"\nuntil = 2027-01-31\n', '[[excepted]]\nid = "a"\n'):
        path.write_text(line)
        with pytest.raises(ValueError, match=r"missing required|unknown field"):
            read_exceptions(path)


def program(tmp_path: Path, *reports: Report | None) -> str:
    """A stand-in for `pip-audit` that gives one report after the other, and breaks off in place of None."""
    for number, report in enumerate(reports, 1):
        if report is not None:
            (tmp_path / f"report{number}").write_bytes(msgspec.json.encode(report))
    path = tmp_path / "pip-audit"
    path.write_text(f'#!/bin/sh\ncd {tmp_path}\necho x >>calls\ncat "report$(wc -l <calls)"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def run(tmp_path: Path, *reports: Report | None) -> int:
    lock, exceptions = tmp_path / "lock", tmp_path / "exceptions"
    lock.write_text("urllib3==2.8.0\n")
    exceptions.write_text("accepted = []\n")
    return main([program(tmp_path, *reports), str(lock), str(exceptions)])


@pytest.mark.parametrize("reports", [(None, None), (Report([SKIPPED]), Report([SKIPPED])), (Report([SKIPPED]), None)])
def test_without_a_database_it_is_skipped_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reports: tuple[Report | None, ...]
) -> None:
    assert run(tmp_path, *reports) == 0
    assert "SKIPPED: no database of advisories can be reached" in capsys.readouterr().out
    # One package each was asked for, and not all of them.
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_the_second_database_is_asked_when_the_first_is_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, None, Report([SOUND]), Report([SOUND, FAULTY])) == 1
    assert "2 packages looked up at osv, 1 problems" in capsys.readouterr().out


def test_what_is_sound_passes(tmp_path: Path) -> None:
    assert run(tmp_path, Report([SOUND]), Report([SOUND])) == 0
