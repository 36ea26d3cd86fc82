"""Tools of a Responses request: their names at the provider, and which of them the model may call."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from ..response.errors import invalid
from . import request_schema as wire

INPUT: Final = "input"
# The parameters of a custom tool, which is a function of one text at the provider.
INPUT_SCHEMA: Final = {
    "type": "object",
    "properties": {INPUT: {"type": "string", "description": "The whole input of the tool, as plain text."}},
    "required": [INPUT],
    "additionalProperties": False,
}
# The Messages API's limit was 64 before it was 128.
_NAME_MAX_CHARS: Final = 64
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
_DIGEST_CHARS: Final = 8
_NO_SUCH_TOOL: Final = "There is no such tool among the tools"
_CHOSEN: Final[Collection[str]] = ("function", "custom")


class Called(NamedTuple):
    """A tool as the client knows it."""

    kind: Literal["function", "custom"]
    name: str
    namespace: str | None


class Offered(NamedTuple):
    """A tool as a function with its name at the provider. `path` is its place in the request."""

    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool
    path: str


class Choice(NamedTuple):
    """The tools that are offered, and what the model may do with them; `name` is the one that it must call."""

    offered: Sequence[Offered]
    mode: Literal["auto", "required", "none"]
    name: str | None = None


class Tools:
    """The tools of a request. Those in a namespace get names of their own, as no other API knows namespaces."""

    def __init__(self, tools: Sequence[wire.Tool]) -> None:
        self.offered: list[Offered] = []
        self.notes: list[str] = []
        self._called: dict[str, Called] = {}
        self._flat: dict[tuple[str | None, str], str] = {}
        # Plain names first, so that these stay as they are.
        numbered = sorted(enumerate(tools), key=lambda entry: isinstance(entry[1], wire.Namespace))
        made: dict[int, list[Offered]] = {}
        for number, tool in numbered:
            path = f"tools[{number}]"
            if isinstance(tool, wire.Namespace):
                made[number] = [
                    self._add(inner, tool.name, f"{path}.tools[{place}]") for place, inner in enumerate(tool.tools)
                ]
                if tool.description and tool.tools:
                    self.notes.append(self._note(tool))
            else:
                made[number] = [self._add(tool, None, path)]
        self.offered = [tool for number in sorted(made) for tool in made[number]]

    def flat(self, name: str, namespace: str | None) -> str:
        """Return the name of a tool at the provider, also of one that is not offered any more."""
        known = self._flat.get((namespace, name))
        return known if known is not None else _flattened(name, namespace)

    def called(self, flat: str) -> Called:
        """Return the tool with this name at the provider."""
        return self._called.get(flat) or Called("function", flat, None)

    @property
    def by_name(self) -> Mapping[str, Called]:
        """The tools by their names at the provider."""
        return self._called

    def named(self, kind: str, name: str | None, namespace: str | None) -> Iterator[str]:
        """Yield the names at the provider of a tool, or of all in a namespace."""
        for flat, tool in self._called.items():
            if kind == "namespace":
                if tool.namespace == name:
                    yield flat
            elif tool.kind == kind and tool.name == name and namespace in (None, tool.namespace):
                yield flat

    def _add(self, tool: wire.Function | wire.Custom, namespace: str | None, path: str) -> Offered:
        flat = _flattened(tool.name, namespace)
        if namespace is not None and flat in self._called:
            flat = _shortened(flat, namespace, tool.name)
        if flat in self._called:
            raise invalid(f"{path}.name", "Two tools have this name")
        kind: Literal["function", "custom"] = "custom" if isinstance(tool, wire.Custom) else "function"
        self._called[flat] = Called(kind, tool.name, namespace)
        self._flat[namespace, tool.name] = flat
        if isinstance(tool, wire.Custom):
            return Offered(flat, _described(tool), INPUT_SCHEMA, False, path)
        return Offered(flat, tool.description, tool.parameters, tool.strict is True, path)

    def _note(self, namespace: wire.Namespace) -> str:
        names = ", ".join(self._flat[namespace.name, tool.name] for tool in namespace.tools)
        return f"About the tools {names}: {namespace.description}"


def _flattened(name: str, namespace: str | None) -> str:
    if namespace is None:
        return _NOT_IN_A_NAME.sub("_", name)
    flat = _NOT_IN_A_NAME.sub("_", f"{namespace}__{name}")
    return flat if len(flat) <= _NAME_MAX_CHARS else _shortened(flat, namespace, name)


def _shortened(flat: str, namespace: str, name: str) -> str:
    digest = hashlib.sha256(f"{namespace}\n{name}".encode(errors="replace")).hexdigest()[:_DIGEST_CHARS]
    return f"{flat[: _NAME_MAX_CHARS - _DIGEST_CHARS - 1]}_{digest}"


def _described(tool: wire.Custom) -> str:
    texts = [tool.description] if tool.description else []
    if tool.format is not None and tool.format.definition:
        syntax = tool.format.syntax or "given"
        texts.append(f"The input must follow this grammar ({syntax}):\n{tool.format.definition}")
    return "\n\n".join(texts) or "Takes plain text."


def choose(asked: wire.ResponsesRequest, tools: Tools) -> Choice | None:
    """Return the choice of the tools; None without any. Raises `RefusedError`."""
    choice = asked.tool_choice
    offered: Sequence[Offered] = tools.offered
    if isinstance(choice, wire.ToolChoice) and choice.type == "allowed_tools":
        allowed = set(_allowed(choice, tools))
        offered = [tool for tool in offered if tool.name in allowed]
    if not offered:
        if choice in (None, "none", "auto") or (isinstance(choice, wire.ToolChoice) and _may_call_none(choice)):
            return None
        raise invalid("tool_choice", _NO_SUCH_TOOL)
    if not isinstance(choice, wire.ToolChoice):
        return Choice(offered, choice or "auto")
    if choice.type == "allowed_tools":
        return Choice(offered, choice.mode)
    if choice.type not in _CHOSEN:
        raise invalid("tool_choice.type", "Only functions and custom tools can be chosen here")
    found = list(tools.named(choice.type, choice.name, choice.namespace))
    if not found:
        raise invalid("tool_choice", _NO_SUCH_TOOL)
    return Choice(offered, "required", found[0])


def _may_call_none(choice: wire.ToolChoice) -> bool:
    return choice.type == "allowed_tools" and choice.mode == "auto"


def _allowed(choice: wire.ToolChoice, tools: Tools) -> Iterator[str]:
    for tool in choice.tools or ():
        yield from tools.named(str(tool.get("type")), tool.get("name"), tool.get("namespace"))
