"""In which order a run takes the tests, and which of them it keeps together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.ordering import _FIRST, _TOGETHER, rank_of, unit_of
from tests.helpers.patience import PROGRAM_S

CONFTEST = """
import pytest

@pytest.fixture(scope="session")
def server():
    print("begins")
    yield
    print("ends")
"""
HOOKS = "from tests.helpers.ordering import pytest_collection_modifyitems, pytest_runtest_teardown"
ROOT = Path(__file__).parents[2]
FILES = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests").rglob("test_*.py"))]


def test_what_is_named_is_there() -> None:
    assert {unit_of(f"{file}::test_it") for file in FILES} >= set(_FIRST)
    for unit, names in _TOGETHER.items():
        assert sum(unit_of(f"{file}::test_it") == unit for file in FILES) == len(names)


def test_what_takes_long_is_not_last_and_simulations_fill_the_end() -> None:
    seeds, defect = (
        f"tests/simulation/test_simulation.py::{name}" for name in ("test_no_seed_breaks_a_promise", "d[a]")
    )
    asked = [
        "tests/unit/actors/domain/job/test_behaviour.py::a",
        defect,
        "tests/cluster/test_nodes.py::b",
        seeds,
        "tests/cluster/test_chat.py::c",
    ]
    assert sorted(asked, key=rank_of) == [asked[4], asked[2], asked[0], seeds, defect]
    assert unit_of(defect) != unit_of(seeds)


def test_files_of_one_name_are_told_apart() -> None:
    assert unit_of("tests/unit/test_sessions.py::a") == "tests/unit/test_sessions.py"
    assert unit_of("tests/api/test_load.py::a") == "tests/api/test_load.py"
    assert unit_of("tests/clients/test_readme.py::a") == unit_of("tests/clients/test_ask.py::a")


def test_a_shared_server_ends_with_the_last_of_those_that_share_it(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "clients"
    folder.mkdir(parents=True)
    # As in this repository: hooks of a conftest below the root, fixtures of one below that.
    (tmp_path / "tests" / "conftest.py").write_text(HOOKS)
    (folder / "conftest.py").write_text(CONFTEST)
    for name, fixtures in (("ask", "server"), ("mcp", "server"), ("other", "")):
        (folder / f"test_{name}.py").write_text(f"def test_{name}({fixtures}):\n    print('{name}')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:valkey"]
    command += ["-p", "no:schemathesis", "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    said = [word for word in run.stdout.replace(".", " ").split() if word in {"begins", "ends", "ask", "mcp", "other"}]
    assert said == ["begins", "ask", "mcp", "ends", "other"], run.stdout
