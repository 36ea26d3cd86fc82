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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEFECTS = sorted((Path(__file__).parent / "defects").glob("*.patch"))
SEEDS, STEPS = 150, 80
"""What a defect is given to show itself in: less than CI gives the server."""
_FOLDERS = ("actors", "client", "http", "config", "scripts", "src")
_RUN = "from satmeter.scripts.cli import main; main()"


@contextmanager
def with_defect(patch: Path) -> Iterator[Path]:
    """A copy of the tree with the defect in it."""
    with tempfile.TemporaryDirectory(prefix="satmeter-defect-") as folder:
        tree = Path(folder)
        for name in _FOLDERS:
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        # Outside of any repository of the caller's: git would else look for the files there.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
        command = ["git", "apply", "--whitespace=nowarn", str(patch)]
        applied = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        if applied.returncode:
            raise AssertionError(f"{patch.name} does not apply any more: {applied.stderr}")
        yield tree


def found_in(tree: Path) -> str | None:
    """The promise that the simulator finds broken in this tree, with its seed; None when it finds nothing."""
    command = [sys.executable, "-c", _RUN, "simulate", "--seeds", f"0..{SEEDS - 1}", "--steps", str(STEPS)]
    command += ["--jobs", str(os.cpu_count() or 1)]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONHASHSEED": "0"}
    run = subprocess.run(
        [*command, "--shrink", "0"], cwd=tree, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    if run.returncode not in (0, 1):
        raise AssertionError(run.stderr)
    found = re.search(r"^Seed \d+ broke a promise: .*$", run.stdout, re.MULTILINE)
    if (found is None) != (run.returncode == 0):
        raise AssertionError(run.stdout[-2_000:] + run.stderr)
    return None if found is None else found[0]


def main() -> int:
    """Tries all; the exit status is 1 when one was not found."""
    missed = 0
    for patch in DEFECTS:
        began_s = time.monotonic()
        with with_defect(patch) as tree:
            found = found_in(tree)
        missed += found is None
        sys.stdout.write(f"{patch.stem}: {found or 'NOT FOUND'} ({time.monotonic() - began_s:.0f} s)\n")
        sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
