"""Simulations of the server in a world full of faults, which prove or break its promises (`satmeter simulate`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NoReturn

import typer
from rich.progress import track

from .plan import faults_of, steps_of
from .run import Outcome, run
from .shrink import Shrinking, shrunk

_SEEDS: Final = re.compile(r"(\d{1,12})\.\.(\d{1,12})")
_SEEDS_MAX: Final = 1_000_000
_SUBMITTED_MAX: Final = 1_000
_HASH_SEED: Final = "PYTHONHASHSEED"


def run_seeds(seed: int | None, seeds: str | None, steps: int, jobs: int, *, verbose: bool, shrink_s: float) -> int:
    """Run each seed until one breaks a promise, print the outcome, and return the exit status."""
    asked = _asked(seed, seeds)
    _make_repeatable()
    began_s = time.monotonic()
    figures: Counter[str] = Counter()
    quiet = not sys.stderr.isatty() or len(asked) == 1
    with closing(_outcomes(asked, steps, 1 if verbose else jobs)) as outcomes:
        for outcome in track(outcomes, "Simulating", total=len(asked), transient=True, disable=quiet):
            if verbose:
                typer.echo("\n".join(outcome.history))
            if outcome.violation is not None:
                _tell_of(outcome, steps, shrink_s)
                return 1
            figures.update(outcome.figures)
    typer.echo(_summary(len(asked), steps, figures, time.monotonic() - began_s))
    return 0


def _outcomes(asked: Sequence[int], steps: int, jobs: int) -> Generator[Outcome, None, None]:
    """Yield the outcome of each seed, in their order. With several processes, they lack histories."""
    if jobs == 1 or len(asked) == 1:
        yield from (run(number, steps_of(number, steps), faults_of(number)) for number in asked)
        return
    pool = ProcessPoolExecutor(jobs, get_context("spawn"))
    try:
        for i in range(0, len(asked), _SUBMITTED_MAX):
            yield from pool.map(partial(_without_history, steps), asked[i : i + _SUBMITTED_MAX])
    finally:
        pool.shutdown(cancel_futures=True)


def _without_history(steps: int, number: int) -> Outcome:
    return replace(run(number, steps_of(number, steps), faults_of(number)), history=())


def _asked(seed: int | None, seeds: str | None) -> Sequence[int]:
    if seeds is None:
        return [seed or 0]
    match = _SEEDS.fullmatch(seeds)
    if seed is not None or match is None:
        _refuse("--seeds: must be a range like 0..199, without --seed")
    asked = range(int(match[1]), int(match[2]) + 1)
    if not 0 < len(asked) <= _SEEDS_MAX:
        _refuse(f"--seeds: must be 1 to {_SEEDS_MAX} seeds, the smaller number first")
    return asked


def _refuse(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)


def _make_repeatable() -> None:
    """Restart with a fixed hash seed: Python otherwise orders sets of text by lot in each process."""
    if os.environ.get(_HASH_SEED) != "0":
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, {**os.environ, _HASH_SEED: "0"})  # noqa: S606 - ourselves again


def _tell_of(outcome: Outcome, steps: int, shrink_s: float) -> None:
    seed = outcome.seed
    if not outcome.history:
        outcome = run(seed, steps_of(seed, steps), faults_of(seed))
    found: Shrinking = shrunk(seed, steps_of(seed, steps), faults_of(seed), outcome, shrink_s)
    typer.echo("\n".join(found.outcome.history))
    typer.echo(f"\nSeed {seed} broke a promise: {outcome.violation}")
    kinds = ", ".join(sorted(found.faults)) or "none"
    typer.echo(f"Above is the shortest history found: {len(found.steps)} of {steps} steps, with these faults: {kinds}.")
    if found.outcome.violation != outcome.violation:
        typer.echo(f"It ends with: {found.outcome.violation}")
    typer.echo(f"Again: satmeter simulate --seed {seed} --steps {steps}    (commit {_commit()})")


def _summary(seeds: int, steps: int, figures: Counter[str], took_s: float) -> str:
    hours = figures["seconds"] / 3_600
    return (
        f"{seeds} {'seed' if seeds == 1 else 'seeds'} of {steps} steps kept all promises: {figures['actors']:,} "
        f"sessions and jobs, {figures['faults']:,} faults, {figures['checks']:,} checks, {hours:,.1f} simulated hours "
        f"in {took_s:,.0f} s.\nIn msat: {figures['deposited']:,} received = {figures['spent']:,} spent + "
        f"{figures['owed']:,} owed + {figures['refunded']:,} refunded."
    )


def _commit() -> str:
    try:
        where = Path(__file__).resolve().parent
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],  # noqa: S607 - whichever git the user has
            cwd=where, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return f"unknown; version {version('satmeter')}"
    return found.stdout.strip()
