"""Strict reading of a TOML table: each fault is noted with its file, table and key, and the rest is read on."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final, TypeVar

EnumT = TypeVar("EnumT", bound=StrEnum)

# Names travel in headers, journals and invoices' descriptions.
_NAME: Final = re.compile(r"[!-~]{1,100}")
_NAME_RULE: Final = "1 to 100 letters, digits or signs, without spaces"
_SECONDS_MAX: Final = 86_400


class CatalogueError(ValueError):
    """Faults of the models' configuration: pairs of the setting at fault, and a sentence that says what to do."""

    def __init__(self, faults: Collection[tuple[str, str]]) -> None:
        super().__init__(" ".join(text for _, text in faults))
        self.faults = tuple(faults)


class Table:
    """A table at a place such as `models.toml, [models.tiny]`. A value that can't be used reads as the default.

    `faults` gets a sentence for each fault of the table, and of those inside it.
    """

    def __init__(self, place: str, value: Any, faults: list[str]) -> None:
        self.place = place
        self.usable = isinstance(value, Mapping)
        self._values: Mapping[str, Any] = value if self.usable else {}
        self._faults = faults
        if not self.usable:
            faults.append(f"{place}: must be a table of keys and values.")

    def fault(self, key: str, text: str) -> None:
        """Note a fault of a key. What is not a table at all was noted, and lacks no key."""
        if self.usable:
            self._faults.append(f"{self.place}, {key}: {text}.")

    def only(self, known: Collection[str]) -> None:
        """Note each key that is not among these, as a misspelt one would leave another at its default."""
        for key in self._values:
            if key not in known:
                near = get_close_matches(key, sorted(known), n=1)
                told = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
                self._faults.append(f"{self.place}, {key}: there is no such key; {told.removesuffix('.')}")

    def has(self, key: str) -> bool:
        """Return whether the key is there."""
        return key in self._values

    @property
    def found(self) -> tuple[str, ...]:
        """The keys that are there."""
        return tuple(self._values)

    def get(self, key: str) -> Any:
        """Return the value as it is, None if it is missing."""
        return self._values.get(key)

    def table(self, key: str) -> Table | None:
        """Return the table inside this one; None if it is missing."""
        return Table(_inside(self.place, key), self._values[key], self._faults) if key in self._values else None

    def tables(self, key: str) -> list[Table]:
        """Return the tables of an array of tables."""
        found = self._values.get(key, [])
        if not isinstance(found, list):
            self._faults.append(f"{self.place}, [{key}]: must be an array of tables: write [[{key}]] above each one.")
            return []
        return [Table(f"{self.place}, [[{key}]] {at}", value, self._faults) for at, value in enumerate(found, 1)]

    def lacks(self, keys: Iterable[str]) -> None:
        """Note in one sentence which of these keys are missing."""
        missing = [key for key in keys if key not in self._values]
        if missing and self.usable:
            self._faults.append(f'{self.place}: {", ".join(missing)} must be set, as a text such as "1.00".')

    def figure(self, key: str, most: Decimal, places: int, *, least: int = 0) -> Decimal:
        """Return an exact number, 0 if it is missing.

        It may be a text or a number; by way of its text it stays the one that was written.
        """
        if key not in self._values:
            return Decimal(0)
        try:
            number = Decimal(str(self._values[key]))
        except InvalidOperation:
            number = Decimal("NaN")
        if (
            number.is_finite()
            and not number.is_signed()
            and least <= number <= most
            and number == round(number, places)
        ):
            return number
        self.fault(key, f'must be a number from {least} to {most} with at most {places} decimal places, as in "1.00"')
        return Decimal(0)

    def whole(self, key: str, *, least: int, most: int, required: bool = False) -> int | None:
        """Return a whole number."""
        value = self._values.get(key)
        if value is None and not required:
            return None
        if type(value) is int and least <= value <= most:
            return value
        self.fault(key, f"must be a whole number from {least} to {most}")
        return None

    def seconds(self, key: str, default: float) -> float:
        """Return a time."""
        value = self._values.get(key, default)
        if type(value) in (int, float, Decimal) and 0 < value <= _SECONDS_MAX:
            return float(value)
        self.fault(key, f"must be a number of seconds above 0, and at most {_SECONDS_MAX}")
        return default

    def text(self, key: str) -> str | None:
        """Return a text that is not empty; None if it is missing."""
        value = self._values.get(key)
        if value is None or (isinstance(value, str) and value.strip()):
            return value
        self.fault(key, "must be a text that is not empty")
        return None

    def name(self, key: str) -> str | None:
        """Return a name; None if it is missing."""
        value = self._values.get(key)
        if value is None or is_name(value):
            return value
        self.fault(key, f"must be a name: {_NAME_RULE}")
        return None

    def names(self, key: str) -> tuple[str, ...]:
        """Return a list of names, none of them twice."""
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(map(is_name, value)):
            self.fault(key, f'must be a list of names, as in ["one", "two"], each of {_NAME_RULE}')
            return ()
        for name in dict.fromkeys(name for name in value if value.count(name) > 1):
            self.fault(key, f"has {name} twice: remove one")
        return tuple(dict.fromkeys(value))

    def choice(self, key: str, kind: type[EnumT], default: EnumT | None = None) -> EnumT | None:
        """Return one of the values of an enumeration. Without a default it is required."""
        value = self._values.get(key, default)
        try:
            return kind(value)
        except ValueError:
            self.fault(key, f"must be {' or '.join(member.value for member in kind)}")
            return None


def is_name(value: Any) -> bool:
    """Return whether a value can be the name of a model or an upstream."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _inside(place: str, key: str) -> str:
    """Return the place of a table inside another: `models.toml, [models]` with `tiny` is `[models.tiny]`."""
    return f"{place[:-1]}.{key}]" if place.endswith("]") else f"{place}, [{key}]"
