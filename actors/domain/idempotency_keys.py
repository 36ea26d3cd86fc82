"""Idempotency keys: the owner of an operation, and the credentials that may get its answer.

Each credential has keys of its own. An answer that was bought under a key goes to that credential, and to those that
it was derived from. For its siblings, and for those derived from it, the same key and body are another operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from .behaviour import Attempt, Mark, Once, Reply
from .credentials.caveats import WHOLE, Grant

# Follows a name: under it, the credentials that the buyer's was derived from find the answer.
_POINTER: Final = "^"
_TAG: Final = "."
# Before the digest of an SDK's attempts.
_AGAIN: Final = "again:"


class HeldOnce(Protocol):
    """An operation that is under way."""

    @property
    def once(self) -> Once:
        """Identity of the operation."""
        ...


HeldT = TypeVar("HeldT", bound=HeldOnce)


class KeptUnder(Reply, frozen=True, tag="kept_under"):
    """Pointer to the name under which the answer is kept, because a derived credential bought it."""

    name: str


class Known(NamedTuple):
    """A kept answer, with the digest of its request and the credential that bought it.

    buyer: the tag of the credential; empty in answers of versions that did not distinguish credentials.
    """

    digest: str
    reply: Reply
    buyer: str


class Found(NamedTuple):
    """The answer kept for an operation. `former`: an earlier version kept it, for some credential of the session."""

    known: Known
    former: bool = False


def operation(grant: Grant, base: str, digest: str) -> Once:
    """Return the operation that a client's key stands for under its credential. `base` is made of path and key."""
    return Once(_name(base, grant.lineage[-1]), digest, keyed=True, lineage=grant.lineage)


def begun(under_way: Mapping[str, HeldT], asked: Once) -> HeldT | None:
    """Return the entry under way for an operation of this credential, or of one that was derived from it."""
    own = under_way.get(asked.name)
    if own is not None:
        return own
    return next((held for held in under_way.values() if _tells(held.once, asked)), None)


def marks(once: Once, reply: Reply) -> tuple[Mark, ...]:
    """Return the mark of the answer, and pointers to it for the credentials that the buyer's was derived from."""
    above = [_name(_base(once.name), tag) + _POINTER for tag in once.lineage[:-1]]
    return (Mark(once, reply), *(Mark(replace(once, name=name), KeptUnder(once.name)) for name in above))


def repetition_mark(attempt: Attempt, once: Once) -> Mark:
    """Return a brief mark by which any host finds the operation that an SDK's attempt repeats."""
    return Mark(Once(repetition_name(attempt), "", keyed=False), KeptUnder(once.name), brief=True)


def repetition_name(attempt: Attempt) -> str:
    """Return the name under which that mark is kept."""
    return f"{_AGAIN}{attempt.digest}"


def repeated(mark: Mark) -> tuple[str, str] | None:
    """Return the digest of a repetition mark's attempts and the name of their operation; None for other marks."""
    if not mark.once.name.startswith(_AGAIN) or not isinstance(mark.reply, KeptUnder):
        return None
    return mark.once.name.removeprefix(_AGAIN), mark.reply.name


def names(once: Once) -> tuple[str, ...]:
    """Return the names under which an answer may be kept for the operation."""
    if not once.lineage:
        return (once.name,)
    former = () if once.lineage[-1] == WHOLE else (_base(once.name),)
    return (once.name, once.name + _POINTER, *former)


def found(once: Once, look: Callable[[str], Known | None]) -> Found | None:
    """Return the answer kept for the operation, if there is one; `look` returns the answer kept under a name."""
    own = look(once.name)
    if own is not None or not once.lineage:
        return None if own is None else Found(own)
    pointer = look(once.name + _POINTER)
    if pointer is not None and pointer.digest == once.digest and isinstance(pointer.reply, KeptUnder):
        bought = look(pointer.reply.name)
        return None if bought is None else Found(bought)
    # Earlier versions kept the answers of all credentials under the name that is now the whole credential's.
    former = None if once.lineage[-1] == WHOLE else look(_base(once.name))
    if former is None or former.buyer or former.digest != once.digest:
        return None
    return Found(former, former=True)


def former_name(once: Once) -> str:
    """Return the name that an earlier version gave the operation, whichever credential of the session asked for it."""
    return _base(once.name)


def _tells(bought: Once, asked: Once) -> bool:
    same = bought.digest == asked.digest and _base(bought.name) == _base(asked.name)
    return same and bool(asked.lineage) and asked.lineage[-1] in bought.lineage


def _name(base: str, tag: str) -> str:
    return base if tag == WHOLE else f"{base}{_TAG}{tag}"


def _base(name: str) -> str:
    return name.partition(_TAG)[0]
