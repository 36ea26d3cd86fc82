"""Cost of a call in the `usage` of the provider's body, which stays unchanged otherwise: a receipt has its digest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import msgspec


def with_cost(body: bytes, cost: Mapping[str, int | str]) -> bytes:
    """Return the body with these members after the others of its `usage`, or unchanged if it has no `usage`.

    The insertion is one piece of text, so that its removal restores the provider's bytes.
    """
    try:
        shown = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        usage = bytes(shown["usage"])
        members = msgspec.json.decode(usage, type=dict[str, msgspec.Raw])
    except (ValueError, KeyError, RecursionError):
        return body
    text = msgspec.json.encode(cost)[1:]
    spliced = usage[:-1] + (b"," if members else b"") + text
    at = body.rfind(usage)
    while at >= 0:
        candidate = body[:at] + spliced + body[at + len(usage) :]
        # The same text may occur elsewhere, such as in the input of a tool call.
        # Within a string it would break the body.
        with suppress(ValueError):
            if msgspec.json.decode(candidate, type=dict[str, msgspec.Raw]).get("usage") == msgspec.Raw(spliced):
                return candidate
        at = body.rfind(usage, 0, at + len(usage) - 1)
    return body
