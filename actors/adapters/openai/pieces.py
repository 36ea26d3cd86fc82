"""Texts in the choices of chat completions, whole or as a stream's deltas: all that is given and billed as output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# vLLM, DeepSeek and llama.cpp have the first name, OpenRouter and Ollama the other; some send the same text in both.
_THOUGHTS: Final = ("reasoning_content", "reasoning")
_CALLED: Final = ("name", "arguments")


def shown(message: Mapping[str, Any]) -> str:
    """Return the text that a message or delta has for a reader."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(text for text in parts if isinstance(text, str))


def refused(message: Mapping[str, Any]) -> str:
    """Return the words with which the model refused."""
    return _text(message.get("refusal"))


def beside(message: Mapping[str, Any]) -> str:
    """Return what a message or delta holds beside its text: thoughts, calls of tools, words of a refusal."""
    found = next((text for name in _THOUGHTS if (text := _text(message.get(name)))), "")
    found += refused(message)
    calls = message.get("tool_calls")
    functions = [_object(call).get("function") for call in calls] if isinstance(calls, list) else []
    for function in (*functions, message.get("function_call")):
        for name in _CALLED:
            value = _object(function).get(name)
            # Ollama's older versions send the arguments as an object.
            found += value if isinstance(value, str) else "" if value is None else str(value)
    return found


def size_of(text: str) -> int:
    """Return the bytes of a text, which bound its tokens."""
    return len(text.encode(errors="surrogatepass"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
