"""Strategies: JSON of any kind, good JSON with some parts changed, bytes with some parts changed, and cuts of both."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", " ", "\n", "\x00", "\ud800", "null", "0", "-1", "data:", "[DONE]", "x" * 5_000, "🌍"]),
    # Words of the APIs, so that a changed part is often another one's.
    st.sampled_from(
        [
            *(
                "text",
                "image",
                "tool_use",
                "tool_result",
                "thinking",
                "function",
                "custom",
                "namespace",
                "user",
                "tool",
            ),
            *("assistant", "system", "developer", "input_text", "message", "reasoning", "json_schema", "auto", "none"),
            *("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error"),
            *("stop", "length", "tool_calls", "refusal", "end_turn", "max_tokens", "base64", "url", "enabled", "any"),
            *("data:image/png;base64,iVBORw0KGgo=", "https://example.test/a.png", "claude-sonnet-5-5", "tiny"),
        ]
    ),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([10**9, 2**31, 2**53, 2**63, 2**64, -(2**63), 10**40, 10**400, 1e308, -0.0, 0.5, 1e-9]),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)
places = st.lists(st.integers(0, 20_000), max_size=8)
# Words for JSON that is nested more deeply than Python's own writer writes it.
_DEEP = {
    f"deep-{depth}-{kind}": begin * depth + b"0" + end * depth
    for depth in (60, 500, 1_100)
    for kind, begin, end in (("lists", b"[", b"]"), ("objects", b'{"type":', b"}"))
}


def cut(data: bytes, at: Sequence[int]) -> Iterator[bytes]:
    """Cut bytes at these places; without any, the whole comes at once."""
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return (data[begin:end] for begin, end in pairwise(edges))


def written(draw: st.DrawFn, value: Any) -> bytes:
    """Write JSON as clients and upstreams do: letters beyond ASCII as they are or escaped, with or without spaces."""
    escapes = draw(st.booleans())
    separators = (",", ":") if draw(st.booleans()) else None
    # Half a character can only be written as an escape, or as bytes that are not UTF-8.
    text = json.dumps(value, ensure_ascii=escapes, separators=separators).encode(errors="surrogatepass")
    for word, nested in _DEEP.items():
        text = text.replace(b'"%b"' % word.encode(), nested)
    return text


@st.composite
def changed(draw: st.DrawFn, seeds: Sequence[Any], most: int = 4) -> Any:
    """Draw one of the seeds, with up to `most` of its parts changed."""
    root = [copy.deepcopy(draw(st.sampled_from(seeds)))]
    for _ in range(draw(st.integers(0, most))):
        holders = list(_holders(root))
        holder, key = draw(st.sampled_from(holders))
        match draw(st.sampled_from(["value", "value", "scalar", "splice", "drop", "again", "rename", "add", "deep"])):
            case "value":
                holder[key] = draw(values)
            case "scalar":
                holder[key] = draw(scalars)
            case "splice":
                other, place = draw(st.sampled_from(holders))
                holder[key] = copy.deepcopy(other[place])
            case "drop" if holder is not root:
                del holder[key]
            case "again" if isinstance(holder, list) and holder is not root:
                holder.insert(key, copy.deepcopy(holder[key]))
            case "rename" if isinstance(holder, dict):
                holder[draw(texts)] = holder.pop(key)
            case "add" if isinstance(holder, dict):
                holder[draw(texts)] = draw(values)
            case "deep":
                holder[key] = draw(st.sampled_from(list(_DEEP)))
    return root[0]


@st.composite
def bodies(draw: st.DrawFn, seeds: Sequence[Any], most: int = 4) -> bytes:
    """Draw a body: a changed seed as JSON, and sometimes with some bytes changed."""
    body = written(draw, draw(changed(seeds, most)))
    return draw(broken(body)) if draw(st.integers(0, 7)) == 0 else body


@st.composite
def broken(draw: st.DrawFn, data: bytes, most: int = 4) -> bytes:
    """Draw these bytes with some changed, taken out, put in, or said twice."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(made)))
        length = draw(st.integers(0, 8))
        match draw(st.sampled_from(["replace", "drop", "add", "again"])):
            case "replace":
                piece = draw(st.binary(max_size=4))
                made[at : at + len(piece)] = piece
            case "drop":
                del made[at : at + length]
            case "add":
                made[at:at] = draw(st.binary(max_size=8))
            case "again":
                made[at:at] = made[at : at + 8 * length]
    return bytes(made)


def _holders(root: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each part as the list or object that holds it, and its place there."""
    waiting: list[Any] = [root]
    while waiting:
        holder = waiting.pop()
        for key, part in holder.items() if isinstance(holder, dict) else enumerate(holder):
            yield holder, key
            if isinstance(part, dict | list):
                waiting.append(part)
