"""Hourly sums of a run, by the audit's own count: each write must add what its events say, and the store all of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from ....actors.ports import Append
from ...audit.books import AuditError, Books, books_of
from ...audit.hours import HourBook
from .sessions import BrokenError, must

Hours = Mapping[tuple[int, str], int]


class HourSums:
    """Sums of all actors by hour, beside those that the writes add."""

    def __init__(self) -> None:
        self._books: dict[str, tuple[Books, HourBook]] = {}
        self._told: Counter[tuple[int, str]] = Counter()

    def wrote(self, append: Append) -> None:
        """Take a write. Raises `BrokenError` when it adds to the sums what its events do not say."""
        for name, amount in append.sums.items():
            must(amount > 0, f"the sum {name} does not rise")
            self._told[append.hour, name] += amount
        if append.actor_id not in self._books:
            self._books[append.actor_id] = books_of(append.actor_id), HourBook()
        books, hours = self._books[append.actor_id]
        before = Counter(hours.sums)
        try:
            for data in append.events:
                hours.take(json.loads(data), books)
        except (AuditError, KeyError) as error:
            raise BrokenError(f"the audit can't follow: {error}") from None
        due = {key: amount for key, amount in (hours.sums - before).items() if amount}
        told = {(append.hour, name): amount for name, amount in append.sums.items()}
        must(told == due, f"a write adds {told} to the hourly sums, and its events say {due}")

    def differing(self, kept: Hours) -> str | None:
        """Return how the store's sums differ from those of all journals; None if they do not."""
        due: Counter[tuple[int, str]] = Counter()
        for _, hours in self._books.values():
            due.update(hours.sums)
        wrong = sorted(key for key in due.keys() | kept.keys() if due[key] != kept.get(key, 0))
        if not wrong:
            return None
        hour, name = wrong[0]
        return f"the sum {name} of hour {hour} is {kept.get(wrong[0], 0)}, and the journals say {due[wrong[0]]}"
