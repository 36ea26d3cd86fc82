"""Clients of others that are run against a real server, and the setting that one needs."""

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
        setting="Its tracing is on by default, and sends the key, which is your macaroon, to OpenAI's own address. "
        "Turn it off: `set_tracing_disabled(True)`, or `OPENAI_AGENTS_DISABLE_TRACING=1` in the environment.",
    ),
)
