"""Tools of a Responses request in the form of the Messages API."""

from __future__ import annotations

from typing import Any

from ..translation import request as common
from ..translation.request import CHOICES
from . import request_schema as wire
from .tools import INPUT_SCHEMA, Offered, Tools, choose


def tool_fields(asked: wire.ResponsesRequest, tools: Tools) -> dict[str, Any]:
    """Return the fields `tools` and `tool_choice`. Raises `RefusedError`."""
    # All are checked, also those that the choice leaves out.
    made = {tool.name: _definition(tool) for tool in tools.offered}
    choice = choose(asked, tools)
    if choice is None:
        return {}
    chosen: dict[str, Any] = {"type": CHOICES[choice.mode]}
    if choice.name is not None:
        chosen = {"type": "tool", "name": choice.name}
    if asked.parallel_tool_calls is False and choice.mode != "none":
        chosen["disable_parallel_tool_use"] = True
    fields: dict[str, Any] = {"tools": [made[tool.name] for tool in choice.offered]}
    return fields if chosen == {"type": "auto"} else {**fields, "tool_choice": chosen}


def _definition(tool: Offered) -> dict[str, Any]:
    if tool.parameters is INPUT_SCHEMA:
        return {"name": tool.name, "description": tool.description, "input_schema": INPUT_SCHEMA}
    return common.tool(tool.name, tool.description, tool.parameters, tool.strict, f"{tool.path}.parameters")
