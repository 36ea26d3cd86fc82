"""The simulator over many seeds, that it is repeatable, and that it finds each deliberate defect."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.defects import DEFECTS, FIRST, ROOT, found_in, with_defect

_SEEDS = 100
_RUN = "from satmeter.scripts.cli import main; main()"


def simulate(*flags: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _RUN, "simulate", *flags]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)


def test_no_seed_breaks_a_promise() -> None:
    run = simulate("--seeds", f"0..{_SEEDS - 1}", "--jobs", str(os.cpu_count() or 1))
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr
    assert f"{_SEEDS} seeds of 100 steps kept all promises" in run.stdout


@pytest.mark.parametrize(("seed", "has"), [(8, "a process for ses_"), (11, "server-0 begins on")])
def test_a_seed_gives_the_same_history_in_every_process_and_after_any_other_seed(seed: int, has: str) -> None:
    alone = simulate("--seed", str(seed), "--verbose", hash_seed="1").stdout.splitlines()
    again = simulate("--seed", str(seed), "--verbose", hash_seed="2").stdout.splitlines()
    after = simulate("--seeds", f"{seed - 1}..{seed}", "--verbose").stdout.splitlines()
    # The last two lines are the summary.
    assert len(alone) > 200 and any(has in line for line in alone)
    assert alone[:-2] == again[:-2] == after[-len(alone) : -2]


def test_a_broken_promise_is_told_with_its_seed_and_a_short_history() -> None:
    (patch,) = [patch for patch in DEFECTS if patch.stem == "acknowledged_before_written"]
    with with_defect(patch) as tree:
        environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-c", _RUN, "simulate", "--seed", "0", "--shrink", "60"]
        run = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
    assert run.returncode == 1
    assert "Seed 0 broke a promise: " in run.stdout
    assert "Above is the shortest history found: " in run.stdout
    assert "Again: satmeter simulate --seed 0 --steps 100    (commit " in run.stdout
    assert len(run.stdout.splitlines()) < 60


def test_there_are_defects_of_at_least_eight_kinds() -> None:
    assert len(DEFECTS) >= 8
    assert set(FIRST) <= {patch.stem for patch in DEFECTS}


@pytest.mark.parametrize("seed", sorted({seed for seed in FIRST.values() if seed >= _SEEDS}))
def test_a_later_seed_that_finds_a_defect_breaks_nothing_without_it(seed: int) -> None:
    run = simulate("--seed", str(seed))
    assert run.returncode == 0, run.stdout[-10_000:] + run.stderr


@pytest.mark.parametrize("patch", DEFECTS, ids=lambda patch: patch.stem)
def test_a_deliberate_defect_is_found(patch: Path) -> None:
    with with_defect(patch) as tree:
        assert found_in(tree, FIRST.get(patch.stem)) is not None


@pytest.mark.parametrize("flags", [["--seeds", "3"], ["--seeds", "5..2"], ["--seeds", "1..2", "--seed", "1"]])
def test_a_range_that_is_none_is_refused(flags: list[str]) -> None:
    run = simulate(*flags)
    assert run.returncode == 2 and "--seeds: " in run.stderr
