"""Snippets of the README and of the pages for users, copied and run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

from mcp import Client, StdioServerParameters

from tests.helpers.patience import PATIENCE_S, PROGRAM_S
from tests.helpers.readme import ROOT, in_order, snippet
from tests.helpers.served import Served

URL = "http://127.0.0.1:8402"


def test_the_python_snippet_asks_buys_and_closes(server: Served, environment: dict[str, str], tmp_path: Path) -> None:
    code = snippet("Python", "python").replace(URL, server.url)
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Name three uses of a sextant." in run.stdout and "state='paid'" in run.stdout


def test_the_command_line_snippet_asks_twice_and_closes(
    server: Served, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    path = f"{Path(command).parent}{os.pathsep}{environment['PATH']}"
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", snippet("Command line", "sh")],
        cwd=tmp_path,
        env={**environment, "PATH": path, "SATMETER_URL": server.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "of a sextant" in run.stdout and "of an astrolabe" in run.stdout and "came back" in run.stderr


async def test_the_mcp_configuration_starts_a_server_that_answers(
    server: Served, command: str, environment: dict[str, str]
) -> None:
    entry = json.loads(snippet("MCP", "json").replace(URL, server.url))["mcpServers"]["satmeter"]
    assert entry["command"] == "satmeter"
    parameters = StdioServerParameters(command=command, args=entry["args"], env={**environment, **entry["env"]})
    async with Client(parameters, read_timeout_seconds=PATIENCE_S) as client:
        result = await client.call_tool("ask", {"request": "Name three uses of a sextant."})
        assert not result.is_error and "sextant" in str(result.structured_content)


# What a machine with nothing but this checkout can't run: each has a test of its own beside its other half.
ELSEWHERE = {
    "Start": "serves, in another terminal",
    "With Claude Code": "needs that program",
    "With an L402 wallet": "needs a Lightning node",
    "With a real node and a real model": "needs both",
    "Closing and refunds": "pays to an address in the internet",
    "Refunds by themselves": "pays to an address in the internet",
    "Load tests": "serves, and takes minutes",
    "The proof": "takes minutes",
    "A store of your own": "needs one",
    "On several machines": "moves actors for minutes",
}


def test_all_snippets_work_pasted_into_one_shell_in_their_order(
    server: Served, command: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """A variable that one of them forgets to set, or a session that one closes too early, breaks a later one."""
    pasted = ["set -euo pipefail", f'export PATH="{Path(command).parent}:$PATH"']
    for heading, language, text in in_order():
        if heading not in ELSEWHERE and language in ("sh", "python"):
            # An answer does not end its line.
            pasted.append(f"echo; echo {shlex.quote(f'== {heading}')}")
            pasted.append(text if language == "sh" else f"python - <<'SNIPPET'\n{text}SNIPPET")
    run = subprocess.run(
        ["bash"],
        input="\n".join(pasted).replace(URL, server.url),
        cwd=tmp_path,
        env={**environment, "SATMETER_URL": server.url, "SATMETER_DATA_DIR": str(server.data_dir)},
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
    )
    assert run.returncode == 0, f"{run.stdout[-1_500:]}\n{run.stderr[-1_500:]}"
    parts: dict[str, str] = {}
    for part in f"\n{run.stdout}".split("\n== ")[1:]:
        heading, _, out = part.partition("\n")
        parts[heading] = parts.get(heading, "") + out
    assert "uses of a sextant" in parts["With Anthropic's SDK"] and "uses of a sextant" in parts["With OpenAI's SDK"]
    assert "Signed by" in parts["Checking a receipt"] and "The books close" in parts["Proving the books"]
    # The only refusal is the one that a page shows: a narrowed macaroon may not top up.
    assert [name for name, out in parts.items() if '"error":' in out] == ["Narrowed macaroons"]
    assert parts["Narrowed macaroons"].count('"error":') == 1
    assert '"state":"closed"' in parts["Closing the session"]
    # What was saved holds macaroons: none of it may be committed by accident.
    ignored = [line[1:] for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("/")]
    saved = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert "client.json" in saved
    assert [name for name in saved if not any(fnmatch(name, pattern) for pattern in ignored)] == []
