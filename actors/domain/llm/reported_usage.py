"""A provider's own report of a call: its request id and its "usage" objects as they came, which receipts show.

The rules by which the call was billed read these objects again, so that a receipt's tokens can be checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from ..pricing import Usage
from .chat_usage import ChatStreamCounts
from .usage import Counts, StreamCounts, counts_of, merged

NO_HEADERS: Final[Mapping[str, str]] = {}
USAGE_MAX_BYTES: Final = 4_096
"""Size of all usage objects of one call that a journal keeps. Known ones have 50 to 700 bytes."""

# Of Anthropic's Messages API, and of OpenAI's and most servers that speak its shape.
_ID_HEADERS: Final = ("request-id", "x-request-id")
_CHAT_NAMES: Final = frozenset({"prompt_tokens", "completion_tokens"})
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+=-]{0,127}")


class ReportedUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The report of one call. Its texts are the provider's, so they get into journals and receipts, but into no log.

    upstream: the one that served the call, by its name in the catalogue; None in journals before there were several.
    first: the usage of a stream's first event. later: those of its other events, or the one of a whole answer; earlier
    ones that change nothing are left out. partial: these figures don't count the whole answer. cut: the objects were
    too large to keep, or not UTF-8. missing: by the rules they are no usage, so that another one was charged.
    """

    provider_id: str | None = None
    first: str | None = None
    later: tuple[str, ...] = ()
    partial: bool = False
    cut: bool = False
    upstream: str | None = None
    missing: bool = False

    def __repr__(self) -> str:
        """Leave the provider's texts out: a log or an error may show this."""
        return f"ReportedUsage({len(self.later) + (self.first is not None)} usage objects)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Leave the provider's texts out, as `__repr__` does."""
        return [("usage_objects", len(self.later) + (self.first is not None))]


class UsageReporter:
    """Collector of the usage objects of one answer, whole or in a stream's events."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._provider_id = provider_id(headers)
        self._first: str | None = None
        self._later: list[str] = []
        self._begun: Counts = {}
        self._counts: Counts = {}
        self._cut = False

    def begin(self, raw: bytes | msgspec.Raw) -> None:
        """Take the usage of a stream's first event."""
        self._first, counts = self._read(raw)
        counted = StreamCounts()
        counted.begin(counts)
        self._later, self._begun, self._counts = [], counted.counts, counted.counts

    def go_on(self, raw: bytes | msgspec.Raw) -> None:
        """Take the usage of a later event, or of a whole answer."""
        text, counts = self._read(raw)
        if text is None:
            return
        self._counts = merged(self._counts, counts)
        # Figures of a stream are cumulative, so the last ones usually say all. Some servers send them at each token.
        if merged(self._begun, counts) == self._counts:
            self._later = []
        self._later.append(text)
        if sum(len(kept.encode()) for kept in (self._first or "", *self._later)) > USAGE_MAX_BYTES:
            self._cut = True

    def report(self, *, final: bool) -> ReportedUsage:
        """Return the report until now. `final`: the figures count the whole answer that was given until now."""
        if self._cut:
            return ReportedUsage(self._provider_id, cut=True)
        counted = self._first is not None or bool(self._later)
        return ReportedUsage(self._provider_id, self._first, tuple(self._later), counted and not final)

    def _read(self, raw: bytes | msgspec.Raw) -> tuple[str | None, Counts]:
        """Return the text of a usage object and its figures; no text for what is not one, or is too long."""
        data = bytes(raw)
        counts = counts_of(data)
        if self._cut or not _is_object(data):
            return None, counts
        try:
            self._cut = len(data) > USAGE_MAX_BYTES
            return (None if self._cut else data.decode()), counts
        except UnicodeDecodeError:
            self._cut = True
            return None, counts


def served_by(upstream: str | None, reported: ReportedUsage | None) -> ReportedUsage | None:
    """Return the report with the upstream that served the call, if it is known."""
    if upstream is None:
        return reported
    return msgspec.structs.replace(reported or ReportedUsage(), upstream=upstream)


class ChatUsageReporter:
    """Collector of the usage objects of a chat completion, whole or in a stream's chunks."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._provider_id = provider_id(headers)
        self._texts: list[str] = []
        self._cut = False

    def take(self, raw: bytes | msgspec.Raw) -> None:
        """Take the next usage object."""
        data = bytes(raw)
        if self._cut or not _is_object(data):
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._cut = True
            return
        # Some servers send growing figures with each piece of the answer.
        if _chat_reading([text]) == _chat_reading([*self._texts, text]):
            self._texts = []
        self._texts.append(text)
        self._cut = sum(len(kept.encode()) for kept in self._texts) > USAGE_MAX_BYTES

    def report(self, usage: Usage | None, *, final: bool = True) -> ReportedUsage:
        """Return the report until now. `usage`: what the rules read in these objects, with the choices of each."""
        if self._cut:
            return ReportedUsage(self._provider_id, cut=True)
        found = _chat_reading(self._texts)
        # Figures of several choices add up, which the objects alone don't show: they are a lower bound.
        several = found is not None and usage is not None and usage.output_tokens > found.output_tokens
        partial = found is not None and usage is not None and (not final or several)
        missing = found is not None and usage is None
        return ReportedUsage(self._provider_id, None, tuple(self._texts), partial, missing=missing)


def provider_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of a call; None where it gave none, or anything but an id."""
    found = next((value for name in _ID_HEADERS if (value := headers.get(name))), "")
    return found if _ID.fullmatch(found) else None


def reading_of(reported: ReportedUsage) -> Usage | None:
    """Read the usage in a report again; None where its figures don't give the prompt's tokens, or were cut.

    Of a `partial` report the answer's tokens are a lower bound.
    """
    if reported.missing:
        return None
    if is_chat(reported):
        return _chat_reading(reported.later)
    counted = StreamCounts()
    if reported.first is not None:
        counted.begin(counts_of(reported.first.encode(errors="replace")))
    for text in reported.later:
        counted.go_on(counts_of(text.encode(errors="replace")))
    return counted.usage(0)


def is_chat(reported: ReportedUsage) -> bool:
    """Return whether these objects are of chat completions, whose names for the figures are others."""
    return any(_CHAT_NAMES & counts_of(text.encode(errors="replace")).keys() for text in reported.later)


def _chat_reading(texts: Sequence[str]) -> Usage | None:
    counted = ChatStreamCounts()
    for text in texts:
        counted.take(counts_of(text.encode(errors="replace")), (0,))
    return counted.usage()


def _is_object(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{"
