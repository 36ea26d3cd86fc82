"""README and pages for users as texts: their length, and the files that their commands leave behind."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.readme import PAGES, in_order

ROOT = Path(__file__).parents[2]
# A redirection, an option that names a file to write, or the client's own file.
WRITES = re.compile(r"""> ([\w.]+)|--(?:json|plot|to) ([\w.]+)|session_file="([\w.]+)\"""")


def _written() -> set[str]:
    snippets = [text for _, language, text in in_order() if language in ("sh", "python")]
    found = {name for snippet in snippets for match in WRITES.findall(snippet) for name in match if name}
    return {name for name in found if not name.isdigit() and name != "FILE"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_git_ignores_all_files_that_the_commands_write_as_some_hold_money() -> None:
    written = _written()
    assert {"client.json", "job.json", "session.json", "receipt.json", "request.txt", "load.json"} <= written
    asked = subprocess.run(["git", "check-ignore", *written], cwd=ROOT, capture_output=True, text=True, check=False)
    assert set(asked.stdout.split()) == written


def test_the_readme_is_short_beside_its_settings() -> None:
    before, _, rest = (ROOT / "README.md").read_text().partition("<!-- settings:begin -->")
    assert len(before.splitlines()) + len(rest.partition("<!-- settings:end -->")[2].splitlines()) <= 150


def test_each_page_with_snippets_is_found_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page for page in PAGES[1:] if f"({page})" not in readme] == []
