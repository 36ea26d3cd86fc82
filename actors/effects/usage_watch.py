"""Warnings for the operator about upstreams whose answers lack a usage, by which they are billed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from ..domain.llm.relays import RelayEnd
from ..ports import Completion, Evaluation

_EVERY_S: Final = 60.0
_log = structlog.get_logger(__name__)


class UsageWatch:
    """Teller of answers that came to their end without a usage: once a minute for each upstream and model."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told_s: dict[tuple[str, str], float] = {}

    def note(self, model: str, upstream: str, part: object, rule: str | None) -> None:
        """Take a part of an answer. `rule`: what the model's `missing_usage` says; None for an estimate."""
        if not _lacks_usage(part):
            return
        now_s, key = self._clock(), (upstream, model)
        if now_s - self._told_s.get(key, -_EVERY_S) < _EVERY_S:
            return
        self._told_s[key] = now_s
        _log.warning(
            "upstream_told_no_usage",
            upstream=upstream,
            model=model,
            charged_by=rule or "estimate",
            hint="its answers are charged by the model's missing_usage: see docs/operating.md",
        )


def _lacks_usage(part: object) -> bool:
    if isinstance(part, RelayEnd):
        return part.status < 400 and part.usage is None and not part.declined
    return isinstance(part, Completion | Evaluation) and part.usage is None
