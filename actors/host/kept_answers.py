"""Kept answers of operations that are done once: a digest of the request, a newline, the reply as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from ..domain import idempotency_keys
from ..domain.behaviour import Mark, Once, Reply
from ..domain.idempotency_keys import KeptUnder, Known
from ..messages import REPLIES
from ..ports import Kept

Recall = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]
"""Reads the store's values under these names."""


class _Bought(msgspec.Struct):
    """Buyer beside the reply, the one field that is not the reply's own; an earlier version skips it."""

    buyer: str = ""


def kept_of(mark: Mark) -> Kept:
    """Return the answer for the store."""
    reply = REPLIES.encode(mark.reply)  # type: ignore[arg-type]
    if mark.once.lineage:
        reply = b'%b,"buyer":"%b"}' % (reply[:-1], mark.once.lineage[-1].encode())
    return Kept(mark.once.name, b"%b\n%b" % (mark.once.digest.encode(), reply), mark.keep_ms)


def known(mark: Mark | None, kept: Mapping[str, bytes], name: str) -> Known | None:
    """Return what is known under a name: from a mark that is not written yet, or from the store."""
    if mark is not None:
        return Known(mark.once.digest, mark.reply, _buyer(mark.once))
    value = kept.get(name)
    if value is None:
        return None
    digest, _, reply = value.partition(b"\n")
    told: Reply = REPLIES.decode(reply)  # type: ignore[assignment]
    return Known(digest.decode(), told, msgspec.json.decode(reply, type=_Bought).buyer)


async def recall(asked: Iterable[Once], look: Recall) -> Mapping[str, bytes]:
    """Return all kept values that may answer these operations. Raises what `look` raises."""
    kept = dict(await look(sorted({name for once in asked for name in idempotency_keys.names(once)})))
    pointers = [known(None, kept, name) for once in asked for name in idempotency_keys.names(once)[1:2]]
    further = {pointer.reply.name for pointer in pointers if pointer and isinstance(pointer.reply, KeptUnder)}
    if further - kept.keys():
        kept.update(await look(sorted(further - kept.keys())))
    return kept


def _buyer(once: Once) -> str:
    return "".join(once.lineage[-1:])
