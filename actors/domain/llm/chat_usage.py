"""Reading of the "usage" objects of OpenAI's chat completions into a `Usage`, whole or from a stream's chunks.

Cached tokens are part of `prompt_tokens` there, and thoughts part of `completion_tokens`. Sources: OpenAI's API
reference; DeepSeek's (`prompt_cache_hit_tokens`); OpenRouter's usage accounting (`cache_write_tokens`); LiteLLM's page
on prompt caching, which adds Anthropic's cache fields to the sum and to the object; vLLM's `continuous_usage_stats`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from ..pricing import Usage
from .usage import Counts, tokens

_UNREADABLE: Final = -1
# The figures of the prompt come before that of the answer.
_OF_PROMPT: Final = 4
# An object adds to those that are kept beside it only if it tells more of the prompt, as no known server's does.
_COUNTING_MAX: Final = 128
# Tiers that cost the plain rates; Groq calls its plain one on_demand.
_PLAIN_TIERS: Final = (None, "auto", "default", "standard", "on_demand")
_TIERS: Final = ("flex", "priority", "scale", "performance", "batch")


class ChatFigures(NamedTuple):
    """Figures of one usage object; None where one is missing, -1 where it can't be read.

    `read` and `written` are the parts of the prompt that came from a cache and went to one, `hour` those written for an
    hour.
    """

    prompt: int | None = None
    read: int | None = None
    written: int | None = None
    hour: int | None = None
    output: int | None = None

    def later(self, after: ChatFigures) -> ChatFigures:
        """Return the prompt's figures with those of a later object. Its zeros and gaps change nothing."""
        return ChatFigures(
            *(new if (new or 0) > 0 or old is None else old for old, new in zip(self, after, strict=True))
        )


class _Told(NamedTuple):
    """A usage object that was taken: its number, figures and text."""

    number: int
    figures: ChatFigures
    text: str | None


def chat_figures(counts: Counts) -> ChatFigures:
    """Return the figures of a usage object."""
    details, by_lifetime = _object(counts, "prompt_tokens_details"), _object(counts, "cache_creation")
    lifetimes = _object(details, "cache_creation_token_details") or by_lifetime
    hour = _figure([lifetimes.get("ephemeral_1h_input_tokens")])
    five_minutes = _figure([lifetimes.get("ephemeral_5m_input_tokens")])
    written = _figure(
        [
            counts.get("cache_creation_input_tokens"),
            details.get("cache_write_tokens"),
            details.get("cache_creation_tokens"),
        ]
    )
    told = max(0, hour or 0) + max(0, five_minutes or 0)
    prompt = _figure([counts.get("prompt_tokens")])
    read = _figure(
        [
            details.get("cached_tokens"),
            counts.get("prompt_cache_hit_tokens"),
            counts.get("cache_read_input_tokens"),
        ]
    )
    # Cache writes must not be free: their parts count where they add up to more than the sum.
    written = max(written or 0, told) if told else written
    return ChatFigures(prompt, read, written, hour, _output(counts, prompt))


def chat_usage_of(counts: Counts, *, given: bool) -> Usage | None:
    """Return the usage of a whole answer; None where it is missing.

    It is missing if the prompt or the answer can't be read, if more of the prompt was cached than it has, and if the
    answer is counted as nothing although some of it was `given`. No prompt has zero tokens, as a template adds some;
    Ollama gives zero for one that it had cached.
    """
    figures = chat_figures(counts)
    return _usage(figures, figures.output, given=given)


def chat_billed_as(tier: Any) -> tuple[str, ...]:
    """Return the name of a service tier that has rates of its own, as `Usage.billed_as` has it."""
    if tier in _PLAIN_TIERS:
        return ()
    return (f"service_tier_{tier if tier in _TIERS else 'unknown'}",)


class ChatStreamCounts:
    """Figures of one stream's chunks, each of which covers some of the choices.

    A figure in a chunk without choices covers those that have finished since the last such chunk: so llama.cpp's, one
    for each choice, add up, and OpenAI's single one covers all. If none has finished since, it repeats the last one, or
    covers all. A figure in a chunk with choices covers these: so vLLM's, which come with each piece of each choice, add
    up by choice. It also covers those that have finished without a figure of their own.

    A later figure replaces the earlier ones of the choices that it covers, so that repeated and growing ones don't add
    up. The prompt counts once.
    """

    def __init__(self) -> None:
        self.billed_as: tuple[str, ...] = ()
        self.taken = 0
        """Number of the usage objects that had figures."""
        self._prompt = ChatFigures()
        self._outputs: dict[frozenset[int], int | None] = {}
        self._counting: dict[frozenset[int], tuple[_Told, ...]] = {}
        self._prompts: list[_Told] = []
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._finished_since: set[int] = set()
        self._last: frozenset[int] = frozenset()
        self._uncounted: set[int] = set()
        self._anything = False

    def given(self, choice: int) -> None:
        """Note that a choice was given more, which no figure covers yet."""
        self._anything = True
        self._seen.add(choice)
        self._uncounted.add(choice)

    def finish(self, choice: int) -> None:
        """Note the end of a choice."""
        self._seen.add(choice)
        if choice not in self._finished:
            self._finished.add(choice)
            self._finished_since.add(choice)

    def take(self, counts: Counts, choices: Collection[int], text: str | None = None) -> None:
        """Take a usage object that came in a chunk with these choices, after their pieces were noted.

        `text` is the object as it came; None where it can't be kept.
        """
        figures = chat_figures(counts)
        if not any(figures):
            return
        self.taken += 1
        told, prompt = _Told(self.taken, figures, text), self._prompt.later(figures)
        tells_prompt = prompt[:_OF_PROMPT] != self._prompt[:_OF_PROMPT]
        self._prompt = prompt
        if tells_prompt:
            # The first and the last say all with any server that is known.
            self._prompts = [*self._prompts[:1], told]
        covered = self._covered_by(choices)
        overlapping = [key for key in self._outputs if key & covered]
        # A figure that covered more is replaced by one that covers as much.
        covered = covered.union(*overlapping)
        before = [self._outputs.pop(key) for key in overlapping]
        counting = [earlier for key in overlapping for earlier in self._counting.pop(key)]
        output = figures.output
        if not output or output < 0:
            # A later zero, null or unreadable figure changes nothing.
            output = sum(max(0, earlier or 0) for earlier in before) or output
            counting = [*counting[:_COUNTING_MAX], told] if tells_prompt or not counting else counting
        else:
            counting = [told]
        self._outputs[covered] = output
        self._counting[covered] = tuple(counting)
        if output and output > 0:
            self._uncounted -= covered

    @property
    def done(self) -> bool:
        """Return whether all choices that were seen have finished."""
        return bool(self._seen) and self._seen <= self._finished

    @property
    def final(self) -> bool:
        """Return whether the figures count all that was given."""
        return self._anything and not self._uncounted

    def usage(self) -> Usage | None:
        """Return the usage so far, its output a lower bound unless `final`; None before the prompt is known."""
        return self._usage(sum(max(0, output or 0) for output in self._outputs.values()), given=False)

    def whole(self) -> Usage | None:
        """Return the usage of an answer that has ended; None where it is missing, as `chat_usage_of` says."""
        outputs = [output for output in self._outputs.values() if output is not None and output >= 0]
        if self._uncounted or not outputs or len(outputs) != len(self._outputs):
            return None
        return self._usage(sum(outputs), given=self._anything)

    def texts(self) -> tuple[str | None, tuple[str, ...]] | None:
        """Return the texts of the objects by which the answer is billed, in their order, as `chat_reading_of` has them.

        The first one is of an object that counts for its prompt alone; None where the others tell the prompt. The
        result is None where a text is missing, or where they would not read as `usage`.
        """
        later = sorted(told for kept in self._counting.values() for told in kept)
        for first in (None, *reversed(self._prompts)):
            kept = [*([] if first is None else [first]), *later]
            if _reading(first and first.figures, [told.figures for told in later]) == self._plain_usage():
                texts = [told.text for told in kept if told.text is not None]
                if len(texts) < len(kept):
                    return None
                return (None, tuple(texts)) if first is None else (texts[0], tuple(texts[1:]))
        return None

    def _plain_usage(self) -> Usage | None:
        usage = self.usage()
        return usage if usage is None else replace(usage, billed_as=())

    def _covered_by(self, choices: Collection[int]) -> frozenset[int]:
        if choices:
            return frozenset(choices) | self._finished.difference(*self._outputs)
        since = frozenset(self._finished_since)
        self._finished_since = set()
        if since or not self._finished:
            self._last = since or frozenset(self._seen or {0})
        return self._last

    def _usage(self, output: int, *, given: bool) -> Usage | None:
        usage = _usage(self._prompt, output, given=given)
        return usage if usage is None else replace(usage, billed_as=self.billed_as)


def chat_reading_of(first: Counts | None, later: Iterable[Counts]) -> Usage | None:
    """Return what the kept objects of an answer say; None where the prompt is unknown.

    The answers' figures of the later ones add up, the prompt counts once.
    """
    return _reading(None if first is None else chat_figures(first), [chat_figures(counts) for counts in later])


def _reading(first: ChatFigures | None, later: Sequence[ChatFigures]) -> Usage | None:
    prompt = ChatFigures() if first is None else first
    for figures in later:
        prompt = prompt.later(figures)
    return _usage(prompt, sum(max(0, figures.output or 0) for figures in later), given=False)


def _usage(figures: ChatFigures, output: int | None, *, given: bool) -> Usage | None:
    prompt, read, written = figures.prompt or 0, figures.read or 0, figures.written or 0
    hour = max(0, figures.hour or 0)
    if prompt <= 0 or read < 0 or written < 0 or output is None or output < 0 or (given and not output):
        return None
    fresh = prompt - read - written
    return None if fresh < 0 else Usage(fresh, output, read, written - hour, hour)


def _output(counts: Counts, prompt: int | None) -> int | None:
    """Return the tokens of the answer, with those that only the sum has.

    xAI's and Google's servers leave thoughts out of `completion_tokens`, and bill them.
    """
    output, total = _figure([counts.get("completion_tokens")]), tokens(counts.get("total_tokens"))
    if total is not None and (prompt or 0) > 0:
        beyond = total - (prompt or 0)
        if beyond > max(0, output or 0):
            return beyond
    return output


def _figure(values: Iterable[Any]) -> int | None:
    """Return the largest readable figure; None if all are missing, -1 if none that is there can be read."""
    present = [value for value in values if value is not None]
    readable = [found for value in present if (found := tokens(value)) is not None]
    return max(readable) if readable else _UNREADABLE if present else None


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}
