"""`scripts/fuzz`: runs the fuzz tests again and again, each time with other examples, until the time is over."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import typer

from tests.fuzz.counts import COUNTS

_HERE = Path(__file__).parent
_PROPERTIES = "properties"
_LINES_SHOWN = 60


def main() -> int:
    """Run, tell the progress, and return 1 if something was found."""
    names = [*sorted(path.stem.removeprefix("test_") for path in _HERE.glob("test_*.py")), _PROPERTIES]
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long to run (%(default)s)")
    parser.add_argument("--examples", type=int, default=2_000, help="cases of each test in a round (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first round (%(default)s)")
    parser.add_argument("--only", action="append", choices=names, help="a target; all without")
    options = parser.parse_args()
    begun_s, seed, failed = time.monotonic(), options.seed, 0
    cases: Counter[str] = Counter()
    while time.monotonic() - begun_s < options.seconds:
        for name in options.only or names:
            if time.monotonic() - begun_s >= options.seconds:
                break
            found, output, took_s = _round(name, seed, options.examples)
            cases.update(found)
            failed += output is not None
            outcome = "nothing found" if output is None else "FAILED"
            typer.echo(f"seed {seed} {name}: {sum(found.values())} cases in {took_s:.0f} s, {outcome}")
            if output is not None:
                typer.echo("\n".join(output.splitlines()[-_LINES_SHOWN:]))
        seed += 1
    took_s = time.monotonic() - begun_s
    typer.echo(f"{sum(cases.values())} cases of {len(cases)} tests in {took_s:.0f} s, {failed} rounds failed")
    for test, count in sorted(cases.items()):
        typer.echo(f"  {count:>9} {test}")
    return 1 if failed else 0


def _round(name: str, seed: int, examples: int) -> tuple[Counter[str], str | None, float]:
    """Run one file of tests; return the cases of each, the output if it failed, and the seconds that it took."""
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        counts = Path(place, "counts")
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--show-capture=no", "-p", "no:cacheprovider"]
        command += ["-p", "tests.fuzz.plugin", f"--hypothesis-seed={seed}", "--hypothesis-profile=fuzz"]
        command.append("tests/property" if name == _PROPERTIES else f"tests/fuzz/test_{name}.py")
        done = subprocess.run(
            command,
            env={**os.environ, COUNTS: str(counts), "FUZZ_EXAMPLES": str(examples), "FUZZ_SEED": str(seed)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        lines = counts.read_text().splitlines() if counts.exists() else []
    found = Counter({test: int(count) for count, _, test in (line.partition(" ") for line in lines)})
    return found, None if done.returncode == 0 else done.stdout, time.monotonic() - begun_s


if __name__ == "__main__":
    sys.exit(main())
