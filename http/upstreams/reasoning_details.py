"""Details of a model's thoughts (`reasoning_details`), which upstreams want back as they gave them.

OpenRouter's shape: texts, summaries and what only the provider can read, each with a signature or an id of its own. In
a stream the pieces of a text follow one another. Source: OpenRouter's guide to reasoning tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

Json = dict[str, Any]
_TEXTS: Final[Mapping[str, str]] = {"reasoning.text": "text", "reasoning.summary": "summary"}


class ReasoningDetails:
    """Details that have come and were not taken yet."""

    def __init__(self, details: Iterable[Mapping[str, Any]] = ()) -> None:
        self._waiting: list[Json] = []
        self.add(details)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, details: Iterable[Mapping[str, Any]]) -> None:
        """Add details, or more of the last one."""
        for detail in details:
            last = self._waiting[-1] if self._waiting else None
            name = _TEXTS.get(str(detail.get("type")))
            if last is None or name is None or not _continues(last, detail):
                self._waiting.append(dict(detail))
                continue
            text = f"{last.get(name) or ''}{detail.get(name) or ''}"
            last |= {key: value for key, value in detail.items() if value is not None}
            last[name] = text

    def taken(self) -> list[Json]:
        """Return the details, and wait for others."""
        found, self._waiting = self._waiting, []
        return found

    @property
    def text(self) -> str:
        """Text that may be shown."""
        return "".join(str(detail.get(_TEXTS.get(str(detail.get("type")), "")) or "") for detail in self._waiting)


def _continues(last: Mapping[str, Any], detail: Mapping[str, Any]) -> bool:
    """Return whether a piece belongs to the last detail. One that is signed has ended."""
    same = all(last.get(name) == detail.get(name) for name in ("type", "index"))
    others = last.get("id") and detail.get("id") and last["id"] != detail["id"]
    return same and not others and not last.get("signature")
