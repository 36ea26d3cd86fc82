"""Translation of a chat completion to a response."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ....actors.domain.llm.chat_usage import chat_usage_of
from ...upstreams.chat_answer import completion_of
from ..head import Head
from ..wanted import Wanted
from .pieces import Pieces, answer_id, incomplete_reason, tokens_of


def response(body: bytes, wanted: Wanted, model: str, created_s: int, cost: Mapping[str, int | str]) -> bytes:
    """Return the whole response. `created_s` is in seconds since the epoch, `cost` goes into its usage.

    Raises `UnreadableAnswerError`.
    """
    found = completion_of(body)
    made_id = answer_id(found.id, created_s)
    head = Head(wanted, created_s, made_id, model)
    output = head.output(alternates=True)
    pieces = Pieces(output, made_id, model)
    for _ in (*pieces.take(found.piece), *pieces.end(found.piece.finish_reason)):
        pass
    counts = found.usage or {}
    used = tokens_of(chat_usage_of(counts, given=False), counts)
    return msgspec.json.encode(head.ended(output.items, incomplete_reason(found.piece.finish_reason), used, cost))
