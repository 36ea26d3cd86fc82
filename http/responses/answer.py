"""Translation of a Messages API answer to a response."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...actors.domain.llm.usage import counts_of
from ..translation.answer_ids import bare_id
from ..translation.message import message_of, tokens_of
from .blocks import Blocks, incomplete_reason
from .head import Head
from .wanted import Wanted


def response(body: bytes, wanted: Wanted, created_s: int, cost: Mapping[str, int | str]) -> bytes:
    """Return the whole response. `created_s` is in seconds since the epoch, `cost` goes into its usage.

    Raises `UnreadableAnswerError`.
    """
    message = message_of(body)
    head = Head(wanted, created_s, answer_id(message.id), message.model)
    output = head.output()
    blocks = Blocks(output)
    for block in message.content:
        for _ in (*blocks.begin(block), *blocks.stop()):
            pass
    for _ in blocks.end(message.stop_reason, message.stop_details):
        pass
    used = tokens_of(counts_of(message.usage))
    return msgspec.json.encode(head.ended(output.items, incomplete_reason(message.stop_reason), used, cost))


def answer_id(message_id: str) -> str:
    """Return the part of a message's id that those of the response and of its items have, too."""
    return bare_id(message_id)
