"""A provider's own report of a call: its request id and its "usage" objects as they came, which receipts show.

Only halves of characters in them are replaced, by the sign for an unreadable one.

The rules by which the call was billed read these objects again, so that a receipt's tokens can be checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..pricing import Usage
from .catalogue import Api
from .chat_usage import ChatStreamCounts, chat_reading_of
from .usage import Counts, StreamCounts, counts_of, merged, output_of

NO_HEADERS: Final[Mapping[str, str]] = {}
USAGE_MAX_BYTES: Final = 4_096
"""Size of all usage objects of one call that a journal keeps. Known ones have 50 to 700 bytes."""

# Of Anthropic's Messages API, and of OpenAI's and most servers that speak its shape.
_ID_HEADERS: Final = ("request-id", "x-request-id")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/+=-]{0,127}")


class ReportedUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The report of one call. Its texts are the provider's, so they get into journals and receipts, but into no log.

    upstream: the one that served the call, by its name in the catalogue; None in journals before there were several.
    first: the usage of a stream's first event. later: those of its other events, or the one of a whole answer; earlier
    ones that change nothing are left out. partial: these figures don't count the whole answer. cut: the objects were
    too large to keep, or not UTF-8.

    api: by whose rules they are read. Of a chat completion, `later` are the objects whose figures of the answer add up:
    one, or one for each choice. `first` is one that is replaced but for its figures of the prompt. missing: they lack
    what the bill of an answer needs, so that it was charged without them.
    """

    provider_id: str | None = None
    first: str | None = None
    later: tuple[str, ...] = ()
    partial: bool = False
    cut: bool = False
    upstream: str | None = None
    api: Api = Api.ANTHROPIC
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


def whole_report(raw: bytes | msgspec.Raw, counts: Counts, headers: Mapping[str, str]) -> ReportedUsage:
    """Return the report of a whole answer: what a `UsageReporter` makes of its one usage object, in one step.

    `counts` are the figures in that object.
    """
    found, data = provider_id(headers), bytes(raw)
    if not _is_object(data):
        return ReportedUsage(found)
    text = kept_text(data)
    if text is None:
        return ReportedUsage(found, cut=True)
    return ReportedUsage(found, None, (text,), partial=not output_of(counts))


class ChatReporter:
    """Maker of the reports of one chat completion, whole or streamed."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._bare = ReportedUsage(provider_id(headers), api=Api.OPENAI)
        self._made: tuple[tuple[int, bool, bool], ReportedUsage] | None = None

    def whole(self, raw: bytes | msgspec.Raw, usage: Usage | None) -> ReportedUsage:
        """Return the report of a whole answer, from its usage object. `usage` is what was read in it."""
        if not _is_object(bytes(raw)):
            return self._bare
        text = kept_text(raw)
        return self._of(None if text is None else (None, (text,)), partial=False, missing=usage is None)

    def streamed(self, counted: ChatStreamCounts, *, ended: bool = False) -> ReportedUsage:
        """Return the report of a stream until now. `ended`: the answer came to its end."""
        state = (counted.taken, counted.final, ended)
        if self._made is None or self._made[0] != state:
            partial, missing = not ended and not counted.final, ended and counted.whole() is None
            found = self._of(counted.texts(), partial=partial, missing=missing) if counted.taken else self._bare
            self._made = state, found
        return self._made[1]

    def _of(self, texts: tuple[str | None, tuple[str, ...]] | None, *, partial: bool, missing: bool) -> ReportedUsage:
        first, later = texts or (None, ())
        if texts is None or sum(len(text.encode()) for text in (first or "", *later)) > USAGE_MAX_BYTES:
            return msgspec.structs.replace(self._bare, cut=True)
        return msgspec.structs.replace(self._bare, first=first, later=later, partial=partial, missing=missing)


def kept_text(raw: bytes | msgspec.Raw) -> str | None:
    """Return the text of a usage object; None for one that is too large to keep, or not UTF-8."""
    data = bytes(raw)
    try:
        return data.decode() if len(data) <= USAGE_MAX_BYTES else None
    except UnicodeDecodeError:
        return None


def served_by(upstream: str | None, reported: ReportedUsage | None) -> ReportedUsage | None:
    """Return the report with the upstream that served the call, if it is known."""
    if upstream is None:
        return reported
    return msgspec.structs.replace(reported or ReportedUsage(), upstream=upstream)


def provider_id(headers: Mapping[str, str]) -> str | None:
    """Return the provider's id of a call; None where it gave none, or anything but an id."""
    found = next((value for name in _ID_HEADERS if (value := headers.get(name))), "")
    return found if _ID.fullmatch(found) else None


def reading_of(reported: ReportedUsage) -> Usage | None:
    """Read the usage in a report again; None where its figures don't give what the bill needs, or were cut.

    Of a `partial` report the answer's tokens are a lower bound.
    """
    if reported.api is Api.OPENAI:
        if reported.missing:
            return None
        first = None if reported.first is None else counts_of(reported.first.encode(errors="replace"))
        return chat_reading_of(first, [counts_of(text.encode(errors="replace")) for text in reported.later])
    counted = StreamCounts()
    if reported.first is not None:
        counted.begin(counts_of(reported.first.encode(errors="replace")))
    for text in reported.later:
        counted.go_on(counts_of(text.encode(errors="replace")))
    return counted.usage(0)


def _is_object(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{"
