"""Models that are sold, by the names that requests give them, with the API that their upstreams speak."""

from __future__ import annotations

from typing import Any

import msgspec

from ...actors.domain.errors import RefusedError, model_not_found
from ...actors.domain.llm.catalogue import Api, Catalogue, ModelEntry
from ..response.errors import invalid
from .json_members import read_members


class _Named(msgspec.Struct):
    model: Any = None


_named = msgspec.json.Decoder(_Named)


class ServedModels:
    """The models of a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def named(self, name: Any) -> ModelEntry:
        """Return the model of a request's name, alias or dated version. Raises `RefusedError`."""
        if not isinstance(name, str):
            raise invalid("model", "This field is required" if name is None else "Must be the name of a model")
        entry = self._catalogue.find(name)
        if entry is None:
            raise RefusedError(model_not_found("/v1/models"))
        return entry

    def api(self, entry: ModelEntry) -> Api:
        """Return the API that a model's upstreams speak, which is the same for all of them."""
        return self._catalogue.upstreams_of(entry)[0].api

    def limit_field(self, entry: ModelEntry) -> str:
        """Return the name of an answer's limit in chat completions, for a call whose client named none."""
        return self._catalogue.limit_field_of(entry)

    def api_of(self, body: bytes) -> Api:
        """Return the API for the model that a body names. Raises `RefusedError`."""
        try:
            name = _named.decode(body).model
        except (ValueError, RecursionError):
            # Either it tells what is wrong, or it reads what msgspec does not, such as half a character.
            _, members = read_members(body)
            name = members["model"].value if "model" in members else None
        return self.api(self.named(name))
