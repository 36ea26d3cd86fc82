"""Shows that the simulator has teeth: applies each deliberate defect to a copy of the tree, and simulates that.

The defects are the patches in `defects/`. `scripts/simulate_defects` runs this; the tests do, too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEFECTS = sorted((Path(__file__).parent / "defects").glob("*.patch"))
SEEDS, STEPS = 150, 80
"""What a defect is given to show itself in: less than CI gives the server."""
FIRST: Mapping[str, int] = tomllib.loads((Path(__file__).parent / "defects" / "seeds.toml").read_text())
"""The seed that is tried before all others, by the defect's name."""
_FOLDERS = ("actors", "client", "http", "config", "scripts", "src")
_RUN = "from satmeter.scripts.cli import main; main()"


@contextmanager
def with_defect(patch: Path) -> Iterator[Path]:
    """A copy of the tree with the defect in it."""
    with tempfile.TemporaryDirectory(prefix="satmeter-defect-") as folder:
        tree = Path(folder)
        for name in _FOLDERS:
            # With what Python has compiled: of the copies it holds as well, but for the patched ones.
            shutil.copytree(ROOT / name, tree / name, symlinks=True)
        # Outside of any repository of the caller's: git would else look for the files there.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
        command = ["git", "apply", "--whitespace=nowarn", str(patch)]
        applied = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        if applied.returncode:
            raise AssertionError(f"{patch.name} does not apply any more: {applied.stderr}")
        yield tree


def found_in(tree: Path, first: int | None = None) -> str | None:
    """Return the promise that the simulator finds broken in this tree, with its seed; None when it finds nothing.

    first: the seed to try before the others.
    """
    if first is not None and (told := _simulated(tree, "--seed", str(first))) is not None:
        return told
    return _simulated(tree, "--seeds", f"0..{SEEDS - 1}")


def _simulated(tree: Path, *seeds: str) -> str | None:
    command = [sys.executable, "-c", _RUN, "simulate", *seeds, "--steps", str(STEPS), "--shrink", "0"]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONHASHSEED": "0"}
    run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if run.returncode not in (0, 1):
        raise AssertionError(run.stderr)
    found = re.search(r"^Seed \d+ broke a promise: .*$", run.stdout, re.MULTILINE)
    if (found is None) != (run.returncode == 0):
        raise AssertionError(run.stdout[-2_000:] + run.stderr)
    return None if found is None else found[0]


def found(patch: Path) -> tuple[str | None, float]:
    """The promise that a defect breaks, None when nothing is found, and how many seconds that took."""
    began_s = time.monotonic()
    with with_defect(patch) as tree:
        return found_in(tree, FIRST.get(patch.stem)), time.monotonic() - began_s


def all_found(patches: Sequence[Path]) -> Mapping[Path, Future[tuple[str | None, float]]]:
    """Tries these, as many at once as there are processors."""
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    futures = {patch: pool.submit(found, patch) for patch in patches}
    pool.shutdown(wait=False)
    return futures


def main() -> int:
    """Tries all, or those that are named; the exit status is 1 when one was not found."""
    missed, asked = 0, sys.argv[1:]
    futures = all_found([patch for patch in DEFECTS if not asked or patch.stem in asked])
    names = {future: patch.stem for patch, future in futures.items()}
    for future in as_completed(names):
        told, took_s = future.result()
        missed += told is None
        sys.stdout.write(f"{names[future]}: {told or 'NOT FOUND'} ({took_s:.0f} s)\n")
        sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
