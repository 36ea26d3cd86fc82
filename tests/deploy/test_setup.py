"""`scripts/setup`: which Python it takes, what it says while it works, and how it ends when it is interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import patiently

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "sh", "cat", "cksum", "dirname", "env", "grep", "rm", "sed", "seq", "sleep", "tail")

# A Python that says which version it is, and makes environments without packages, whose pip waits for a file to come.
# It has the modules that are looked for, which Debian's own Python, as one that runs these tests, may lack.
PYTHON = """#!/bin/sh
case "$*" in
    *'-m venv'*)
        mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *'import pip'*)
        [ ! -e "$(dirname "$0")/broken" ] ;;
    *'-m pip install'*)
        echo "Collecting one"
        echo $$ >"{here}/pip.pid"
        until [ -e "{here}/go" ]; do sleep 0.05; done ;;
    *)
        shift
        exec "{python}" -I -S -c 'import importlib.util as found, sys
found.find_spec, sys.version_info = bool, ({version}, 1, "final", 0)
exec(sys.argv[1])' "$@" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", root / "scripts")
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    return root


def python(folder: Path, version: str) -> Path:
    """A program of this version, in a folder."""
    folder.mkdir(exist_ok=True)
    program = folder / f"python{version}"
    here = folder.parent
    program.write_text(PYTHON.format(here=here, python=sys.executable, version=version.replace(".", ", ")))
    program.chmod(0o755)
    return program


def environment(folder: Path, **more: str) -> dict[str, str]:
    """One whose PATH has no Python but those in the folder."""
    folder.mkdir(exist_ok=True)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    # What the made-up Python itself uses.
    for tool in ("cp", "mkdir"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return {"PATH": str(folder), "TMPDIR": str(folder.parent), **more}


def start(checkout: Path, env: dict[str, str], *command: str) -> subprocess.Popen[str]:
    words = [str(checkout / "scripts" / "setup"), *command]
    # A shell can't trap a signal that is ignored when it starts, which `nohup` does to the tests.
    ours = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        return subprocess.Popen(
            words, env=env, cwd=checkout.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGHUP, ours)


def run(checkout: Path, env: dict[str, str], *command: str) -> tuple[int, str, str]:
    with start(checkout, env, *command) as running:
        out, err = running.communicate(timeout=PATIENCE_S)
        return running.returncode, out, err


def test_a_python_that_is_named_and_too_old_is_refused_by_its_version(checkout: Path, tmp_path: Path) -> None:
    bin_dir = tmp_path / "bin"
    old = python(bin_dir, "3.10")
    python(bin_dir, "3.12")
    status, _, err = run(checkout, environment(bin_dir, PYTHON=str(old)))
    assert status == 1 and not (checkout / ".venv").exists()
    assert f"PYTHON={old} can't be used: it is Python 3.10. Satmeter needs Python 3.11 to 3." in err


def test_a_python_that_is_named_and_not_there_is_refused(checkout: Path, tmp_path: Path) -> None:
    status, _, err = run(checkout, environment(tmp_path / "bin", PYTHON="/no/where"))
    assert status == 1 and "PYTHON=/no/where can't be used: there is no such program." in err


def test_where_none_fits_each_that_is_there_is_named(checkout: Path, tmp_path: Path) -> None:
    bin_dir = tmp_path / "bin"
    python(bin_dir, "3.10").rename(bin_dir / "python3")
    status, _, err = run(checkout, environment(bin_dir))
    assert status == 1 and "found none" in err and f"{bin_dir}/python3: it is Python 3.10" in err


def test_it_says_how_far_it_is_and_runs_the_command_where_it_was_called(checkout: Path, tmp_path: Path) -> None:
    bin_dir = tmp_path / "bin"
    python(bin_dir, "3.12")
    (tmp_path / "go").touch()
    env = environment(bin_dir)
    status, out, err = run(checkout, env, "sh", "-c", "pwd; echo done")
    assert (status, out) == (0, f"{tmp_path}\ndone\n")
    assert f"{bin_dir}/python3.12, Python 3.12" in err and f"{checkout}/.venv/satmeter-setup.log" in err
    assert "Collecting one" in (checkout / ".venv" / "satmeter-setup.log").read_text()
    assert run(checkout, env, "sh", "-c", "echo again") == (0, "again\n", "")


def test_another_python_that_is_named_makes_it_again(checkout: Path, tmp_path: Path) -> None:
    bin_dir = tmp_path / "bin"
    python(bin_dir, "3.12")
    other = python(bin_dir, "3.11")
    (tmp_path / "go").touch()
    env = environment(bin_dir)
    assert run(checkout, env)[0] == 0
    assert "Python 3.11 ..." in run(checkout, {**env, "PYTHON": str(other)})[2]
    assert run(checkout, {**env, "PYTHON": str(other)}) == (0, "", "")


def test_an_environment_that_was_made_in_part_is_made_again(checkout: Path, tmp_path: Path) -> None:
    bin_dir = tmp_path / "bin"
    python(bin_dir, "3.12")
    (tmp_path / "go").touch()
    env = environment(bin_dir)
    assert run(checkout, env)[0] == 0
    (checkout / ".venv" / "satmeter-setup").unlink()
    (checkout / ".venv" / "bin" / "broken").touch()
    assert "Making .venv" in run(checkout, env)[2]


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_and_pip_at_once(checkout: Path, tmp_path: Path, signum: int, status: int) -> None:
    bin_dir = tmp_path / "bin"
    python(bin_dir, "3.12")
    with start(checkout, environment(bin_dir)) as running:
        patiently((tmp_path / "pip.pid").exists, "pip did not start")
        running.send_signal(signum)
        _, err = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == status and err.endswith("Interrupted. Started again, the set-up goes on from here.\n")
    pid = int((tmp_path / "pip.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_all_that_runs_on_other_pythons_is_there() -> None:
    """A path that was moved would end the run on each of them before its first test."""
    listed = (ROOT / ".ci" / "versions").read_text().partition("unit=(")[2].partition(")\n")[0]
    expanded = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {' '.join(listed.split())}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    paths = expanded.stdout.split()
    assert len(paths) > 10 and [path for path in paths if not (ROOT / path).exists()] == []
