"""Tools of a Responses request as functions of chat completions."""

from __future__ import annotations

from typing import Any, Final

from .. import request_schema as wire
from ..tools import Offered, Tools, choose

_NO_PARAMETERS: Final = {"type": "object", "properties": {}}


def tool_fields(asked: wire.ResponsesRequest, tools: Tools) -> dict[str, Any]:
    """Return the fields `tools`, `tool_choice` and `parallel_tool_calls`, where needed. Raises `RefusedError`."""
    choice = choose(asked, tools)
    if choice is None:
        return {}
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in choice.offered]}
    if choice.name is not None:
        fields["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.mode != "auto":
        fields["tool_choice"] = choice.mode
    if asked.parallel_tool_calls is False:
        fields["parallel_tool_calls"] = False
    return fields


def _tool(tool: Offered) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = {"type": "object", **(tool.parameters or _NO_PARAMETERS)}
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}
