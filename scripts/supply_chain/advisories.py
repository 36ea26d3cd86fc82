"""Known vulnerabilities of the locked packages: asks `pip-audit`, and holds its answer to the accepted exceptions.

CI runs it. Where no database of advisories can be reached it says so, instead of calling everything sound.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import msgspec

_SERVICES: Final = ("pypi", "osv")
_TIMEOUT_S: Final = 20
_WITHIN_S: Final = 600
# One package, to see whether a database answers, before it is asked about all of them.
_PROBE: Final = "idna==3.10\n"


class Vulnerability(msgspec.Struct):
    """An advisory about a package, as `pip-audit` reports it."""

    id: str
    aliases: list[str] = []
    fix_versions: list[str] = []


class Package(msgspec.Struct):
    """A package of the report. `skip_reason`: why it was not looked up."""

    name: str
    version: str = ""
    vulns: list[Vulnerability] = []
    skip_reason: str | None = None


class Report(msgspec.Struct):
    """The report of `pip-audit --format json`."""

    dependencies: list[Package] = []


class Accepted(msgspec.Struct, forbid_unknown_fields=True):
    """An advisory that is accepted until a day, with the reason."""

    id: str
    package: str
    why: str
    until: date


class Exceptions(msgspec.Struct, forbid_unknown_fields=True):
    """The file of exceptions, `.ci/advisories.toml`."""

    accepted: list[Accepted] = []


def read_exceptions(path: Path) -> list[Accepted]:
    """Return the accepted advisories. Raises `ValueError` for a file that can't be read."""
    return msgspec.convert(tomllib.loads(path.read_text()), Exceptions).accepted


def looked_up(report: Report) -> bool:
    """Return whether a database answered for any package."""
    return any(package.skip_reason is None for package in report.dependencies)


def judge(report: Report, accepted: Sequence[Accepted], today: date) -> tuple[list[str], list[str]]:
    """Return what is wrong, and what is only to be known."""
    wrong, notes, used = [], [], set()
    for package in report.dependencies:
        if package.skip_reason is not None:
            notes.append(f"{package.name} was not looked up: {package.skip_reason}")
        for found in package.vulns:
            names = {found.id, *found.aliases}
            entry = next((one for one in accepted if one.id in names and one.package == package.name), None)
            fixed = f"fixed in {', '.join(found.fix_versions)}" if found.fix_versions else "not fixed yet"
            told = f"{package.name} {package.version}: {found.id} ({fixed})"
            if entry is None:
                wrong.append(f"{told}: upgrade it, or accept it in .ci/advisories.toml with a reason")
            else:
                used.add(entry.id)
                notes.append(f"{told} is accepted until {entry.until}: {entry.why}")
    wrong += [f"{entry.id} was accepted until {entry.until}: look again" for entry in accepted if entry.until < today]
    notes += [f"{entry.id} is not reported any more: remove it" for entry in accepted if entry.id not in used]
    return wrong, notes


def _asked(program: str, requirements: Path, service: str) -> Report:
    """Return the report; an empty one when `pip-audit` could not make any."""
    words = [program, "--requirement", str(requirements), "--vulnerability-service", service, "--format", "json"]
    words += ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", str(_TIMEOUT_S)]
    try:
        run = subprocess.run(words, capture_output=True, timeout=_WITHIN_S, check=False)
        return msgspec.json.decode(run.stdout, type=Report)
    except (subprocess.TimeoutExpired, msgspec.DecodeError):
        return Report()


def main(arguments: Sequence[str] | None = None) -> int:
    """Look all locked packages up; return 1 if one has an advisory that is not accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pip_audit", help="the program")
    parser.add_argument("lock", type=Path)
    parser.add_argument("exceptions", type=Path)
    given = parser.parse_args(arguments)
    accepted = read_exceptions(given.exceptions)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as probe:
        probe.write(_PROBE)
        probe.flush()
        service = next((one for one in _SERVICES if looked_up(_asked(given.pip_audit, Path(probe.name), one))), None)
    report = Report() if service is None else _asked(given.pip_audit, given.lock, service)
    if not looked_up(report):
        _say("pip-audit SKIPPED: no database of advisories can be reached from here, so nothing was looked up")
        return 0
    wrong, notes = judge(report, accepted, datetime.now(UTC).date())
    for line in (*notes, *wrong):
        _say(line)
    _say(f"pip-audit: {len(report.dependencies)} packages looked up at {service}, {len(wrong)} problems")
    return 1 if wrong else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
