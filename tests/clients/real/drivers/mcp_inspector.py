"""MCP inspector, by its command line, over `satmeter mcp` of the checkout."""

import json
import os
from pathlib import Path

from cases import QUESTION, SERVER, case, check, program, run

PROGRAM = "node_modules/.bin/mcp-inspector"


def inspect(method, *words):
    command = {
        "command": os.environ["SATMETER"],
        "args": ["mcp", "--server", SERVER, "--budget-sats", "1000"],
        "env": {"XDG_STATE_HOME": str(Path.cwd())},
    }
    Path("mcp.json").write_text(json.dumps({"mcpServers": {"satmeter": command}}))
    asked = ["node", PROGRAM, "--cli", "--config", "mcp.json", "--server", "satmeter", "--method", method, *words]
    status, said = program(asked, {})
    check(status == 0, said[-1_000:])
    return json.loads(said[said.index("{") : said.rindex("}") + 1])


@case("answer")
def answer():
    tools = {tool["name"] for tool in inspect("tools/list")["tools"]}
    check({"ask", "quote_job", "buy_job", "balance", "prices"} <= tools, tools)


@case("tools")
def tools():
    found = inspect("tools/call", "--tool-name", "ask", "--tool-arg", f"request={QUESTION}")
    check(not found.get("isError") and "sextant" in found["structuredContent"]["answer"], found)


run()
