"""Reading of the Messages API's "usage" objects: readable figures count, even beside missing or absurd ones.

Figures come whole, or in several events of a stream. Source: Anthropic's Messages API, prompt caching guide and
streaming guide: `cache_creation_input_tokens` is the sum of the members of `cache_creation`, and the figures of a
stream are cumulative.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from ..pricing import Usage

# No request can use more. A larger figure is a fault of the provider, and would make the price absurd.
_TOKENS_MAX: Final = 100_000_000
_INPUT: Final = "input_tokens"
_OUTPUT: Final = "output_tokens"
_READ: Final = "cache_read_input_tokens"
_WRITTEN: Final = "cache_creation_input_tokens"
_BY_LIFETIME: Final = "cache_creation"
_SERVER_TOOLS: Final = "server_tool_use"
WEB_SEARCHES: Final = "web_search_requests"
"""The name of web searches in a usage, and in the `billed_as` of a call that may make some."""
_5M: Final = "ephemeral_5m_input_tokens"
_1H: Final = "ephemeral_1h_input_tokens"

# Other members of a "usage" object, with the values that cost nothing extra.
_STANDARD: Final[Mapping[str, Collection[Any]]] = {
    "inference_geo": (None, "global", "not_available"),
    "service_tier": (None, "standard"),
    "speed": (None, "standard"),
}
# Kinds of sampling runs that are billed at the plain rates; other kinds are billed on top, or at other rates.
_PLAIN_ITERATIONS: Final = ("message",)
_WORD: Final = re.compile(r"[a-z0-9_]{1,40}")
_BILLED_AS_MAX: Final = 8

Counts = Mapping[str, Any]
"""Members of a "usage" object as it came."""


def counts_of(raw: bytes | msgspec.Raw) -> Counts:
    """Return the figures in this JSON; none when it is not an object."""
    try:
        found = msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def merged(before: Counts, after: Counts) -> Counts:
    """Merge the figures of an earlier and a later event of a stream.

    A later zero, null or unreadable figure changes nothing. Any other replaces the earlier one, even if it is smaller:
    the figures are cumulative, so that a smaller one corrects an estimate, and the last one is billed.
    """
    found = dict(before)
    for name, value in after.items():
        if name in (_INPUT, _OUTPUT, _READ, _WRITTEN):
            keep = not tokens(value) and name in before
        elif name == _BY_LIFETIME:
            keep = not any(_by_lifetime(value)) and name in before
        else:
            keep = value is None
        if not keep:
            found[name] = value
    return found


class StreamCounts:
    """Figures of one stream's events. `final`: they count the whole answer that was given until now."""

    def __init__(self) -> None:
        self.counts: Counts = {}
        self.final = False
        self._begun_tokens = 0

    def begin(self, counts: Counts) -> None:
        """Take the figures of the first event. The answer has only begun, so its figure is only a lower bound."""
        self._begun_tokens = output_of(counts) or 0
        self.counts = {name: value for name, value in counts.items() if name != _OUTPUT}

    def go_on(self, counts: Counts) -> None:
        """Take the figures of a later event."""
        self.counts = merged(self.counts, counts)
        self.final = bool(output_of(self.counts))

    def given(self) -> None:
        """Note that more of the answer came after these figures, so that they are not final."""
        self.final = False

    def usage(self, given_tokens: int) -> Usage | None:
        """Return the usage. An answer that is not counted to its end has at least `given_tokens`, an estimate."""
        least = max(self._begun_tokens, given_tokens)
        found = usage_of(self.counts, least)
        if found is None or self.final or found.output_tokens >= least:
            return found
        return msgspec.structs.replace(found, output_tokens=least)


def usage_of(counts: Counts, given_tokens: int | None = None) -> Usage | None:
    """Return the tokens that were used; None when these figures don't give the prompt's.

    `given_tokens` replaces an answer's figure that is missing, unreadable or zero. Without it, the result is None where
    the answer's figure is missing or unreadable. Cache writes of unknown lifetime are 5-minute writes, the API's
    default.
    """
    fresh, read, written = tokens(counts.get(_INPUT)), _or_none(counts, _READ), _written(counts)
    output = output_of(counts)
    if not output and given_tokens is not None:
        output = given_tokens
    if fresh is None or read is None or written is None or output is None:
        return None
    five_minutes, one_hour = written
    return Usage(fresh, output, read, five_minutes, one_hour, billed_as(counts), _searches(counts))


def _searches(counts: Counts) -> int:
    """Return the provider's web searches; 0 when their figure can't be read."""
    tools = counts.get(_SERVER_TOOLS)
    return (tokens(tools.get(WEB_SEARCHES)) or 0) if isinstance(tools, dict) else 0


def billed_as(counts: Counts) -> tuple[str, ...]:
    """Return names of options billed apart from the plain rates, such as `inference_geo_us`, `web_search_requests`."""
    found = [f"{name}_{_word(counts.get(name))}" for name, plain in _STANDARD.items() if counts.get(name) not in plain]
    tools, iterations = counts.get(_SERVER_TOOLS), counts.get("iterations")
    if isinstance(tools, dict):
        found += [_word(name) for name, count in tools.items() if count]
    if isinstance(iterations, list):
        kinds = [entry.get("type") if isinstance(entry, dict) else None for entry in iterations]
        found += sorted({f"iterations_{_word(kind)}" for kind in kinds if kind not in _PLAIN_ITERATIONS})
    return tuple(dict.fromkeys(found))[:_BILLED_AS_MAX]


def _word(value: Any) -> str:
    """Return the value if it is an identifier, else "unknown": free text must not get into a journal or a log."""
    found = value.replace("-", "_") if isinstance(value, str) else ""
    return found if _WORD.fullmatch(found) else "unknown"


def output_of(counts: Counts) -> int | None:
    """Return the tokens of the answer; None when they can't be read."""
    return tokens(counts.get(_OUTPUT))


def tokens(value: Any) -> int | None:
    """Return the figure if it is a whole number that is neither negative nor absurd, else None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= _TOKENS_MAX else None


def _or_none(counts: Counts, name: str) -> int | None:
    """Return an optional figure: 0 if it is missing, None if it can't be read."""
    value = counts.get(name)
    return 0 if value is None else tokens(value)


def _written(counts: Counts) -> tuple[int, int] | None:
    """Return the cache writes for five minutes and for an hour.

    None when neither the sum nor a member can be read, and one of them is there. The members count when they add up to
    more than the sum: cache writes must not be free.
    """
    value, total = counts.get(_BY_LIFETIME), _or_none(counts, _WRITTEN)
    five_minutes, one_hour = _by_lifetime(value)
    told = sum(count or 0 for count in (five_minutes, one_hour))
    if total is None and not told:
        return None
    if counts.get(_WRITTEN) is None and not told and not _is_empty(value):
        return None
    hour = one_hour or 0
    return max(total or 0, told) - hour, hour


def _by_lifetime(value: Any) -> tuple[int | None, int | None]:
    if not isinstance(value, dict):
        return None, None
    return tokens(value.get(_5M)), tokens(value.get(_1H))


def _is_empty(value: Any) -> bool:
    """Return True if a breakdown says that there were no writes, rather than some that can't be read."""
    if not isinstance(value, dict):
        return not value
    return all(value.get(name) in (None, 0) for name in (_5M, _1H))
