"""Catalogue of the models for OpenAI's Codex, which asks GET /v1/models for it with its version.

Source: the fields that Codex 0.171 requires, and those that it reads of them. Without a catalogue it takes every model
for one without tools of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ...actors.domain.llm.catalogue import Api, ModelEntry
from ...actors.domain.llm.model_traits import traits_of

# Of a model whose context is not known.
_CONTEXT_TOKENS: Final = 200_000
_RESULT_TOKENS: Final = 10_000
_EFFORTS: Final[Mapping[str, str]] = {
    "low": "Answers soon, and thinks little",
    "medium": "Thinks as much as most work needs",
    "high": "Thinks long about hard problems",
}
_INSTRUCTIONS: Final = """\
You are a coding agent. You run in Codex, a program in the user's terminal, and work in the user's own files.

- Carry on until the request is done, and check the result, by tests where there are some. Ask only for what you can
  neither find out nor decide.
- Look before you change anything: read the files concerned, search with `rg` where it is there, and follow the
  conventions of the project and the instructions in its AGENTS.md files.
- Change files with apply_patch. Keep a change as small as the request needs, and leave alone what others have changed.
- Never commit, delete what can't be restored, or go beyond the sandbox, unless the user has asked for it.
- For work of several steps say in a sentence what you do next. At the end say briefly what you did, where (as
  path:line), and what is left."""


def catalogue(models: Iterable[tuple[ModelEntry, Api, str]]) -> list[dict[str, Any]]:
    """Return the entries of models, each of which comes with its API and with a name for people."""
    return [_entry(model, api, name, priority) for priority, (model, api, name) in enumerate(models, 1)]


def _entry(model: ModelEntry, api: Api, name: str, priority: int) -> dict[str, Any]:
    # Codex sends an effort wherever it may, and many models behind chat completions refuse any.
    takes_effort = api is Api.ANTHROPIC and traits_of(model.upstream_model).effort
    efforts = _EFFORTS if takes_effort else {}
    context_tokens = model.context_tokens or _CONTEXT_TOKENS
    return {
        "slug": model.name,
        "display_name": name,
        "description": None,
        "default_reasoning_level": "medium" if efforts else None,
        "supported_reasoning_levels": [{"effort": effort, "description": text} for effort, text in efforts.items()],
        "shell_type": "unified_exec",
        "visibility": "list",
        "supported_in_api": True,
        "priority": priority,
        "availability_nux": None,
        "upgrade": None,
        "base_instructions": _INSTRUCTIONS,
        "supports_reasoning_summaries": bool(efforts),
        "supports_reasoning_summary_parameter": bool(efforts),
        "default_reasoning_summary": "auto" if efforts else "none",
        "support_verbosity": False,
        "default_verbosity": None,
        "apply_patch_tool_type": "freeform",
        "truncation_policy": {"mode": "tokens", "limit": _RESULT_TOKENS},
        "supports_parallel_tool_calls": True,
        "context_window": context_tokens,
        "experimental_supported_tools": [],
        "input_modalities": ["text", "image"],
    }
