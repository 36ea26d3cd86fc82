"""Requests of other APIs as bodies of chat completions: the parts in which their translations are alike."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ...actors.domain.llm.catalogue import Api, ModelEntry
from ...actors.domain.llm.relays import RelayBody
from ..response.errors import invalid
from .chat_costs import bound_of_chat
from .provider_call import ProviderCall

Json = dict[str, Any]
_UNBOUNDED: Final = "What it costs can't be known here: the model's longest prompt is not"


class TranslatedChat(msgspec.Struct, frozen=True):
    """A translated request: `body` for chat completions, without the limit of the answer, and the other options.

    `limit_field` is the limit's name there. `thinks`: the client asked the model to think, which counts towards
    `max_tokens`. `ignored` are the names of fields that were sent and have no effect.
    """

    entry: ModelEntry
    limit_field: str
    body: Json
    thinks: bool
    max_tokens: int | None
    stream: bool
    ignored: tuple[str, ...]

    def call(self, default_tokens: int) -> ProviderCall:
        """Return the call. `default_tokens` is the limit if the client named none. Raises `RefusedError` (400)."""
        most = self.entry.max_output_tokens
        limit = self.max_tokens or default_tokens
        limit = limit if most is None else min(limit, most)
        begun = b'%b,"%b":' % (self.encoded()[:-1], self.limit_field.encode())
        body = b"%b%d}" % (begun, limit)
        bound = bound_of_chat(self.body, len(body), self.entry)
        return ProviderCall(
            model=self.entry.name,
            body=RelayBody(body, limit, len(begun), len(body) - 1),
            stream=self.stream,
            prompt_tokens_max=bound.tokens,
            prompt_rate=bound.rate,
            api=Api.OPENAI,
        )

    def encoded(self) -> bytes:
        """Return the body without the limit."""
        return msgspec.json.encode(self.body)


def chat_body(
    entry: ModelEntry, asked: str, messages: list[Json], image: str | None, fields: Json, *, user: str, stream: bool
) -> Json:
    """Return a body for this model, which the client named as `asked`; `user` is a digest.

    `image` is the path of the first image in the request. Raises `RefusedError` (400) that names it where the model's
    longest prompt, which alone would bound its cost, is not known.
    """
    if image is not None and entry.context_tokens is None:
        raise invalid(image, _UNBOUNDED)
    made: Json = {"model": entry.sent_as(asked), "messages": messages, **fields}
    if user:
        made["user"] = user
    if stream:
        made |= {"stream": True, "stream_options": {"include_usage": True}}
    return made
