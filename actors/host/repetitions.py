"""Repetitions of calls by a client's library that gave up waiting: each is joined to its first call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# Longest wait of a library before it tries again, and the way here.
_KEPT_S: Final = 12.0


@dataclass(slots=True, eq=False)
class _Ended:
    digest: str
    name: str
    heard: bool
    until_s: float
    claims: int = 0


@dataclass(slots=True, eq=False)
class Ended:
    """Calls of one actor that have just come to an answer. The answers themselves are in the store.

    Several clients may have sent the same at once: each repetition gets a call of its own, first those whose answer no
    caller was there to take.
    """

    _calls: list[_Ended] = field(default_factory=list)

    def add(self, digest: str, name: str, now_s: float, *, heard: bool) -> None:
        """Add a call that has an answer, by its name and the digest of its repetitions. `heard`: a caller got it."""
        self._calls = [call for call in self._calls if call.until_s > now_s]
        self._calls.append(_Ended(digest, name, heard, now_s + _KEPT_S))

    def claim(self, digest: str, now_s: float) -> str | None:
        """Return the name of the call whose answer a repetition is for."""
        found = [call for call in self._calls if call.digest == digest and call.until_s > now_s]
        if not found:
            return None
        call = min(found, key=lambda call: (call.heard, call.claims))
        call.claims += 1
        # The library may not get this answer either.
        call.until_s = now_s + _KEPT_S
        return call.name
