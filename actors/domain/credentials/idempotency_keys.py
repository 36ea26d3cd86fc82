"""Idempotency keys: whose an operation is, and who is told its answer.

A key is its credential's own. What was bought under it is told to that credential, and to those that it was derived
from; to its siblings, and to what is derived from it, the same key and body are an operation of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from ..behaviour import Attempt, Mark, Once, Reply
from .caveats import WHOLE, Grant

# Behind a name: where those find an answer whose credential the buyer's was derived from.
_POINTER: Final = "^"
_TAG: Final = "."
# Before the digest of an SDK's attempts.
_AGAIN: Final = "again:"


class HeldOnce(Protocol):
    """What is under way for an operation."""

    @property
    def once(self) -> Once:
        """The operation."""
        ...


HeldT = TypeVar("HeldT", bound=HeldOnce)


class KeptUnder(Reply, frozen=True, tag="kept_under"):
    """The answer is kept under this name: it was bought by a credential that was derived from one."""

    name: str


class Known(NamedTuple):
    """An answer that is kept: to what, and by which credential it was bought.

    buyer: the tag of the credential; empty in answers of versions that did not tell credentials apart.
    """

    digest: str
    reply: Reply
    buyer: str


class Found(NamedTuple):
    """What is kept for an operation. `former`: by an earlier version, for one of the credentials of the session."""

    known: Known
    former: bool = False


def operation(grant: Grant, base: str, digest: str) -> Once:
    """The operation that a client's key stands for under its credential. `base` is made of path and key."""
    return Once(_name(base, grant.lineage[-1]), digest, keyed=True, lineage=grant.lineage)


def begun(under_way: Mapping[str, HeldT], asked: Once) -> HeldT | None:
    """What is under way for an operation, by this credential or one that was derived from it."""
    own = under_way.get(asked.name)
    if own is not None:
        return own
    return next((held for held in under_way.values() if _tells(held.once, asked)), None)


def marks(once: Once, reply: Reply) -> tuple[Mark, ...]:
    """The answer as it is kept, and the way to it for the credentials that the buyer's was derived from."""
    above = [_name(_base(once.name), tag) + _POINTER for tag in once.lineage[:-1]]
    return (Mark(once, reply), *(Mark(replace(once, name=name), KeptUnder(once.name)) for name in above))


def repetition_mark(attempt: Attempt, once: Once) -> Mark:
    """Says for a moment which operation a repetition of an SDK's attempt is, whichever host it comes to."""
    return Mark(Once(repetition_name(attempt), "", keyed=False), KeptUnder(once.name), brief=True)


def repetition_name(attempt: Attempt) -> str:
    """Under which name that is kept."""
    return f"{_AGAIN}{attempt.digest}"


def repeated(mark: Mark) -> tuple[str, str] | None:
    """The digest of the attempts that a mark speaks of, and the name of the operation that they are."""
    if not mark.once.name.startswith(_AGAIN) or not isinstance(mark.reply, KeptUnder):
        return None
    return mark.once.name.removeprefix(_AGAIN), mark.reply.name


def names(once: Once) -> tuple[str, ...]:
    """The names under which something may be kept for the operation."""
    if not once.lineage:
        return (once.name,)
    former = () if once.lineage[-1] == WHOLE else (_base(once.name),)
    return (once.name, once.name + _POINTER, *former)


def found(once: Once, look: Callable[[str], Known | None]) -> Found | None:
    """What is kept for the operation, if anything is; `look` tells what is kept under a name."""
    own = look(once.name)
    if own is not None or not once.lineage:
        return None if own is None else Found(own)
    pointer = look(once.name + _POINTER)
    if pointer is not None and pointer.digest == once.digest and isinstance(pointer.reply, KeptUnder):
        bought = look(pointer.reply.name)
        return None if bought is None else Found(bought)
    # The whole credential has kept its name, under which all of them kept their answers once.
    former = None if once.lineage[-1] == WHOLE else look(_base(once.name))
    if former is None or former.buyer or former.digest != once.digest:
        return None
    return Found(former, former=True)


def former_name(once: Once) -> str:
    """The name that an earlier version gave the operation, whichever credential of the session asked for it."""
    return _base(once.name)


def _tells(bought: Once, asked: Once) -> bool:
    same = bought.digest == asked.digest and _base(bought.name) == _base(asked.name)
    return same and bool(asked.lineage) and asked.lineage[-1] in bought.lineage


def _name(base: str, tag: str) -> str:
    return base if tag == WHOLE else f"{base}{_TAG}{tag}"


def _base(name: str) -> str:
    return name.partition(_TAG)[0]
