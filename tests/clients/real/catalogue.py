"""Clients of others that are run against a real server, and the setting that one needs.

Each has its lock in `locks/`, of `echo PACKAGE | uv pip compile --universal --python-version 3.11 --generate-hashes
--no-annotate --no-header --no-emit-index-url --no-emit-find-links --only-binary :all: - -o requirements.txt`, or of
`npm install --package-lock-only` beside a `package.json` and `.npmrc` like the others. After a change of a lock the
client must be run, which writes its version into docs/clients.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CASES: Final = ("answer", "stream", "tools", "401", "402")
# Programs that stream each answer.
WITHOUT_STREAM: Final = ("answer", "tools", "401", "402")
# Wallets have no key, and tools are not theirs.
WALLET: Final = ("answer", "stream", "402")


@dataclass(frozen=True)
class Client:
    """A package of a registry, its driver, and the ways in which the driver uses it, each a row of the table."""

    name: str
    package: str
    driver: str
    title: str
    ways: Sequence[str]
    cases: Sequence[str] = CASES
    setting: str = ""
    within_s: float = 300

    @property
    def locked(self) -> Path:
        """Folder with the lock of its packages."""
        return HERE / "locks" / self.name

    @property
    def is_python(self) -> bool:
        """Tell whether it comes from PyPI, else from npm."""
        return (self.locked / "requirements.txt").exists()

    @cached_property
    def version(self) -> str:
        """Version that its lock names."""
        if self.is_python:
            pins = (self.locked / "requirements.txt").read_text()
            found = re.search(rf"^{re.escape(self.package)}==([^\s;]+)", pins, re.MULTILINE)
            assert found is not None, f"{self.package} is not in its lock"
            return found[1]
        packages = json.loads((self.locked / "package-lock.json").read_text())["packages"]
        return str(packages[f"node_modules/{self.package}"]["version"])


CLIENTS: Final = (
    Client("openai-python", "openai", "openai_python.py", "OpenAI SDK, Python", ("chat.completions", "responses")),
    Client("openai-node", "openai", "openai_node.mjs", "OpenAI SDK, Node", ("chat.completions", "responses")),
    Client("anthropic-python", "anthropic", "anthropic_python.py", "Anthropic SDK, Python", ("messages",)),
    Client("anthropic-node", "@anthropic-ai/sdk", "anthropic_node.mjs", "Anthropic SDK, Node", ("messages",)),
    Client(
        "openai-agents",
        "openai-agents",
        "openai_agents.py",
        "OpenAI Agents SDK",
        ("default (responses)", "chat_completions"),
        setting="Its tracing is on by default, and sends `OPENAI_API_KEY`, or the key of `set_default_openai_key`, to "
        "OpenAI's own address: with your macaroon there, OpenAI gets it. Turn it off with "
        "`set_tracing_disabled(True)`, or `OPENAI_AGENTS_DISABLE_TRACING=1` in the environment.",
    ),
    Client(
        "openai-agents-node",
        "@openai/agents",
        "openai_agents_node.mjs",
        "OpenAI Agents SDK, Node",
        ("default (responses)", "chat_completions"),
        setting="As in Python: turn its tracing off, by `setTracingDisabled(true)`.",
    ),
    Client(
        "pydantic-ai",
        "pydantic-ai-slim",
        "pydantic_ai_driver.py",
        "Pydantic AI",
        ("openai:", "openai-chat:", "anthropic:"),
        setting='The address goes to the provider: `OpenAIProvider(base_url="$SERVER/v1", api_key=...)`, '
        '`AnthropicProvider(base_url="$SERVER", api_key=...)`.',
    ),
    Client(
        "ai-sdk",
        "ai",
        "ai_sdk.mjs",
        "AI SDK",
        ("openai()", "openai.chat()", "anthropic()", "anthropic(), address without /v1", "openai-compatible"),
        setting="`baseURL` ends in `/v1` for each provider; `createAnthropic` also takes the bare address. "
        "`createOpenAICompatible` needs "
        "`includeUsage: true` to tell the usage of a stream. `openai()` with tools needs "
        "`providerOptions: { openai: { store: false } }`: nothing is remembered here.",
    ),
    Client(
        "codex",
        "@openai/codex",
        "codex.py",
        "Codex CLI",
        ("codex exec", "codex exec, with auth"),
        WITHOUT_STREAM,
        setting="See [sdks.md](sdks.md#with-codex). It tries a wrong key and an empty balance six times, in 7 s.",
        within_s=600,
    ),
    Client(
        "claude-code",
        "@anthropic-ai/claude-code",
        "claude_code.py",
        "Claude Code",
        ("claude -p",),
        setting="See [sdks.md](sdks.md#with-claude-code). A wrong key is told within 20 s.",
        within_s=900,
    ),
    Client(
        "opencode",
        "opencode-linux-x64",
        "opencode.py",
        "opencode",
        ("@ai-sdk/openai-compatible", "@ai-sdk/anthropic", "@ai-sdk/openai"),
        WITHOUT_STREAM,
        setting="A provider in `opencode.json` with one of these names as `npm`, and `baseURL` (ending in `/v1`) and "
        "`apiKey` under `options`.",
        within_s=600,
    ),
    Client(
        "pi",
        "@mariozechner/pi-coding-agent",
        "pi.py",
        "pi",
        ("openai-completions", "openai-responses", "anthropic-messages"),
        WITHOUT_STREAM,
        setting="A provider in `~/.pi/agent/models.json` with one of these names as `api`. Its `baseUrl` ends in `/v1` "
        "but for `anthropic-messages`.",
    ),
    Client(
        "langchain",
        "langchain-openai",
        "langchain_driver.py",
        "LangChain",
        ("ChatOpenAI", "ChatOpenAI(use_responses_api=True)", "ChatAnthropic"),
        setting="`ChatOpenAI` needs `stream_usage=True` to tell the usage of a stream.",
    ),
    Client(
        "langchain-js",
        "@langchain/openai",
        "langchain_node.mjs",
        "LangChain.js",
        ("ChatOpenAI", "ChatOpenAI(useResponsesApi)", "ChatAnthropic"),
        setting="`ChatOpenAI` takes the address as `configuration: { baseURL }`, `ChatAnthropic` as `anthropicApiUrl`, "
        "without `/v1`.",
    ),
    Client("litellm", "litellm", "litellm_driver.py", "LiteLLM", ("openai/", "anthropic/", "responses()")),
    Client(
        "l402-requests",
        "l402-requests",
        "l402_requests_driver.py",
        "l402-requests",
        ("L402Client",),
        WALLET,
        setting="It remembers what it paid for each path: `/v1/messages` and `/ask` have a deposit each.",
    ),
    Client(
        "alby",
        "@getalby/lightning-tools",
        "alby.mjs",
        "Alby's lightning-tools",
        ("fetchWithL402", "fetch402"),
        WALLET,
        setting="Each call pays a new deposit, unless it is given `credentials: response.payment.credentials` of an "
        "earlier one. With these it never pays; after a 402, ask once without them.",
    ),
    Client("bolt402", "bolt402", "bolt402_driver.py", "bolt402", ("L402Client.with_lnd_rest",), WALLET),
    Client(
        "mcp-inspector",
        "@modelcontextprotocol/inspector",
        "mcp_inspector.py",
        "MCP inspector",
        ("satmeter mcp",),
        ("answer", "tools"),
    ),
)
