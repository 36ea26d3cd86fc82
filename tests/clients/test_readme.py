"""The README's snippets for clients, copied and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters

from tests.readme import snippet
from tests.served import Served

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
    async with Client(parameters, read_timeout_seconds=60) as client:
        result = await client.call_tool("ask", {"request": "Name three uses of a sextant."})
        assert not result.is_error and "sextant" in str(result.structured_content)
