"""Catalogue of the models that are sold: their names, prices and limits, and the upstreams that serve them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Final

import msgspec

from ..pricing import MissingUsage, ModelPrice

_DATED: Final = re.compile(r"-(?:\d{8}|latest)$")
# OpenAI's own servers, and those at Azure.
_OPENAI: Final = re.compile(r"https://(?:[\w-]+\.)*(?:api\.openai\.com|openai\.azure\.com)(?:[:/]|$)", re.IGNORECASE)


class Api(StrEnum):
    """The APIs that an upstream may speak: Anthropic's Messages, or OpenAI's chat completions."""

    ANTHROPIC = "anthropic"
    OPENAI = "openai"


class Upstream(msgspec.Struct, frozen=True):
    """A server that answers model calls. It holds no key, so that it may travel and be logged.

    `silence_timeout_s` bounds the wait for the next bytes, not that for the whole answer.
    """

    name: str
    api: Api
    base_url: str
    connect_timeout_s: float
    silence_timeout_s: float


class ModelEntry(msgspec.Struct, frozen=True):
    """A model that is sold. `name` is the one in ledgers, prices and receipts, `upstream_model` the upstreams' own.

    `upstreams` are names, in the order in which they are tried. A limit that is None is not known here.
    """

    name: str
    upstreams: tuple[str, ...]
    upstream_model: str
    price: ModelPrice
    aliases: tuple[str, ...] = ()
    context_tokens: int | None = None
    max_output_tokens: int | None = None

    @property
    def missing_usage(self) -> MissingUsage | None:
        """Charge for an answer without a usage, which is part of the price."""
        return self.price.missing_usage

    def sent_as(self, asked: str) -> str:
        """Return the name to send upstream. A dated version goes on as it is, where upstreams know the model's name."""
        if self.upstream_model == self.name == undated(asked):
            return asked
        return self.upstream_model


class Catalogue(msgspec.Struct, frozen=True, dict=True):
    """All models and upstreams. No two models share a name or an alias; the upstreams of one model speak one API."""

    entries: tuple[ModelEntry, ...]
    upstreams: tuple[Upstream, ...]

    @cached_property
    def _by_name(self) -> Mapping[str, ModelEntry]:
        return {name: entry for entry in self.entries for name in (entry.name, *entry.aliases)}

    @cached_property
    def prices(self) -> Mapping[str, ModelPrice]:
        """Prices by the models' names, without aliases."""
        return {entry.name: entry.price for entry in self.entries}

    def find(self, name: str) -> ModelEntry | None:
        """Return the model with this name or alias, or the one of which it is a dated version."""
        return self._by_name.get(name) or self._by_name.get(undated(name))

    def models(self) -> tuple[ModelEntry, ...]:
        """Return all models, by name."""
        return tuple(sorted(self.entries, key=lambda entry: entry.name))

    def upstreams_of(self, entry: ModelEntry) -> tuple[Upstream, ...]:
        """Return a model's upstreams, in the order in which they are tried."""
        by_name = {upstream.name: upstream for upstream in self.upstreams}
        return tuple(by_name[name] for name in entry.upstreams)

    def limit_field_of(self, entry: ModelEntry) -> str:
        """Return the name of an answer's limit in chat completions, as the first of a model's upstreams knows it."""
        return chat_limit_field(self.upstreams_of(entry)[0].base_url)

    def api_of(self, entry: ModelEntry) -> Api:
        """Return the API that all upstreams of a model speak."""
        return self.upstreams_of(entry)[0].api


def undated(name: str) -> str:
    """Return a model's name without a date or `-latest` at its end."""
    return _DATED.sub("", name)


def chat_limit_field(base_url: str) -> str:
    """Return the name of an answer's limit in chat completions, for a server at this address.

    All servers know the older name but OpenAI's own, whose newer models refuse it.
    """
    return "max_completion_tokens" if _OPENAI.match(base_url) else "max_tokens"


def shared_names(entries: Iterable[ModelEntry]) -> list[str]:
    """Return the names and aliases that stand more than once."""
    seen: dict[str, int] = {}
    for entry in entries:
        for name in (entry.name, *entry.aliases):
            seen[name] = seen.get(name, 0) + 1
    return [name for name, count in seen.items() if count > 1]
