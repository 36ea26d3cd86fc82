"""The smaller selection of `scripts/test-clients`: clients of others whose packages install in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

import pytest

from tests.clients.real.battery import Row, World, run, world
from tests.clients.real.catalogue import CASES, CLIENTS, Client
from tests.clients.real.report import PAGE, written

ALL_OK = "| ok | ok | ok | ok | ok |"
SELECTED = ("openai-python", "openai-node", "anthropic-python", "anthropic-node", "l402-requests", "alby", "bolt402")


@pytest.fixture(scope="module")
def served() -> Iterator[World]:
    with world() as found:
        yield found


@pytest.mark.parametrize("client", [client for client in CLIENTS if client.name in SELECTED], ids=lambda c: c.name)
def test_a_client_gets_along_with_a_real_server(served: World, client: Client) -> None:
    said: list[str] = []
    rows = run(client, served, said.append)
    assert rows and all(row.passed for row in rows), "\n".join(said)


def test_a_client_whose_program_is_missing_is_said_not_to_have_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    client = next(client for client in CLIENTS if not client.is_python)
    said: list[str] = []
    rows = run(client, cast(World, None), said.append)
    assert len(rows) == len(client.ways) and not any(row.passed for row in rows)
    assert all("not run: Node.js" in result for row in rows for result in row.results.values())
    assert "not run" in said[-1]


def test_the_locks_name_hashes_and_no_registry() -> None:
    for client in CLIENTS:
        assert client.version
        if client.is_python:
            lines = (client.locked / "requirements.txt").read_text().splitlines()
            pins = [line for line in lines if not line.startswith((" ", "#"))]
            assert pins and all("==" in line and line.endswith("\\") for line in pins), client.name
            assert not any("://" in line for line in lines), client.name
        else:
            packages = json.loads((client.locked / "package-lock.json").read_text())["packages"]
            pinned = [package for name, package in packages.items() if name]
            assert pinned and all(package["integrity"].startswith("sha512-") for package in pinned), client.name
            assert not any("resolved" in package for package in pinned), client.name


def test_a_run_replaces_its_own_rows_of_the_page_and_keeps_the_others() -> None:
    first, second = CLIENTS[0], CLIENTS[1]
    good = [Row(client, way, dict.fromkeys(CASES, "ok")) for client in (second, first) for way in client.ways]
    page = written("# Page\n<!-- clients:begin -->\n<!-- clients:end -->\nEnd\n", good)
    assert page.startswith("# Page\n") and page.endswith("<!-- clients:end -->\nEnd\n")
    assert page.index(f"| {first.title} |") < page.index(f"| {second.title} |") and page.count(ALL_OK) == len(good)
    bad = [Row(first, first.ways[0], {**dict.fromkeys(CASES, "ok"), "402": "it | did\nnot fail"})]
    again = written(page, bad)
    assert r"it \| did not fail" in again and again.count(ALL_OK) == len(good) - 1
    assert written(again, good) == page


def test_the_page_has_each_client_with_the_version_of_its_lock() -> None:
    """A raised version or a new client must have been run."""
    text = PAGE.read_text()
    missing = [
        f"{client.name}, {way}"
        for client in CLIENTS
        for way in client.ways
        if f"| {client.title} | `{way}` | {client.version} |" not in text
    ]
    assert missing == []
    assert written(text, []) == text, "its settings are not the catalogue's"
