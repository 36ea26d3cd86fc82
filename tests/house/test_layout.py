"""The layout that keeps `satmeter.*` importable and the standard library's `http` in its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINKED = ("actors", "client", "http", "config", "scripts")
# `import client` from the root shadows nothing of anybody's; a name to import from needs a file to export from.
MAY_BE_A_PACKAGE = ("client/__init__.py",)


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", LINKED)
def test_the_package_links_to_the_top_level_folder(name: str) -> None:
    link = ROOT / "src" / "satmeter" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", "..", name)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
@pytest.mark.parametrize("name", LINKED)
def test_git_keeps_the_link_as_a_link(name: str) -> None:
    assert _git("ls-files", "--stage", f"src/satmeter/{name}").startswith("120000 ")


@pytest.mark.parametrize("name", LINKED)
def test_no_linked_folder_is_a_package_of_its_own(name: str) -> None:
    found = [str(path.relative_to(ROOT)) for path in (ROOT / name).rglob("__init__.py")]
    assert [path for path in found if path not in MAY_BE_A_PACKAGE] == []


def test_http_is_the_standard_library_s_even_from_the_root_of_the_checkout() -> None:
    code = "import http, http.client; print(http.__file__)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not Path(run.stdout.strip()).is_relative_to(ROOT / "http")


def test_the_lock_pins_everything_by_hash_and_names_no_index() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if "==" in line and not line.startswith((" ", "#"))]
    assert len(pins) > 50
    assert all(line.endswith("\\") for line in pins), "a pin without a hash"
    text = "\n".join(lines)
    for word in ("--index-url", "--extra-index-url", "--find-links", "http://", "https://", "file:", "git+"):
        assert word not in text


@pytest.mark.parametrize(
    "path",
    [
        "scripts/setup",
        "scripts/serve",
        "scripts/test",
        "scripts/check",
        "scripts/docs",
        "scripts/test-clients",
        "scripts/lock",
        "scripts/pin-image",
        "scripts/screenshots",
        ".ci/run",
        ".ci/supply-chain",
    ],
)
def test_shell_scripts_are_executable_and_parse(path: str) -> None:
    script = ROOT / path
    assert script.stat().st_mode & 0o111 == 0o111
    subprocess.run(["bash", "-n", script], check=True)
