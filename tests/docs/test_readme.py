"""The README as a text: what its commands leave behind."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A redirection, an option that names a file to write, or the client's own file.
WRITES = re.compile(r"""> ([\w.]+)|--(?:json|plot|to) ([\w.]+)|session_file="([\w.]+)\"""")


def _written() -> set[str]:
    snippets = re.findall(r"^```(?:sh|python)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    found = {name for snippet in snippets for match in WRITES.findall(snippet) for name in match if name}
    return {name for name in found if not name.isdigit() and name != "FILE"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_git_ignores_all_files_that_the_commands_write_as_some_hold_money() -> None:
    written = _written()
    assert {"client.json", "job.json", "session.json", "receipt.json", "request.txt", "load.json"} <= written
    asked = subprocess.run(["git", "check-ignore", *written], cwd=ROOT, capture_output=True, text=True, check=False)
    assert set(asked.stdout.split()) == written
