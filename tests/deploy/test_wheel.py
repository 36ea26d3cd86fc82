"""The wheel: what is in it, what is not, and that the program runs from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
# What deploy/Dockerfile builds it from. `src` holds links to the other folders.
SOURCES = ("src", "actors", "client", "config", "http", "scripts", "pyproject.toml", "README.md")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the wheel, built from a copy, as a build leaves its own files beside the sources."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, checkout)
    built = tmp_path_factory.mktemp("built")
    # Setuptools warns of what it will refuse some day, which is not this test's subject.
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD, str(built)],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (wheel,) = built.glob("*.whl")
    with ZipFile(wheel) as files:
        files.extractall(built / "unpacked")
    return built / "unpacked"


def _modules_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


def test_all_modules_are_in_the_wheel_but_those_of_a_checkout(unpacked: Path) -> None:
    ours = {
        f"{folder}/{name}"
        for folder in SOURCES[1:6]
        for name in _modules_of(ROOT / folder)
        if "__pycache__" not in name
    }
    left_out = {name for name in ours if name.startswith(("scripts/benchmarks/", "scripts/supply_chain/"))}
    assert len(left_out) > 10
    assert _modules_of(unpacked / "satmeter") == {"__init__.py"} | ours - left_out


def test_files_that_are_not_modules_are_in_the_wheel_too(unpacked: Path) -> None:
    assert {path.name for path in unpacked.glob("satmeter/**/*") if path.suffix in {".toml", ".typed"}} == {
        path.name for path in (ROOT / "config").glob("*.toml")
    } | {"py.typed"}
    pages = "http/pages/static"
    assert {path.name for path in (unpacked / "satmeter" / pages).iterdir()} == {
        path.name for path in (ROOT / pages).iterdir()
    }


@pytest.mark.parametrize("command", [[], ["simulate"], ["serve"]])
def test_the_program_says_its_help_from_the_wheel_alone(unpacked: Path, command: list[str], tmp_path: Path) -> None:
    code = "import satmeter; print(satmeter.__file__); from satmeter.scripts.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(str(unpacked)) and "Usage" in run.stdout
