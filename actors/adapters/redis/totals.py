"""Liability totals of partitions: the sum that the wallet must hold, kept running so that no crash makes it wrong.

    satmeter:{p0017}:totals   hash: `liability_msat`, and the `epoch` through which it was kept

The script that appends events adds their change to it. Each claim carries it on to the new epoch, if it was kept in the
epoch before. If not, a host that does not keep it has had the partition, and it is counted again from the journals.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import structlog
from redis.asyncio import Redis

from ...domain.behaviour import BooksError, UnknownEventError
from ...domain.money import MoneyError
from ...partitioning import PARTITIONS
from ...ports import Stored
from .guard import guarded
from .keys import partition_keys
from .scan import all_actors

LiabilityOf = Callable[[str, Stored], int]
"""Returns the sum that the wallet must hold for an actor, in msat, from its id and its stored state."""

_COUNTED: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'liability_msat', ARGV[2])
"""
_TELL_EVERY_S: Final = 5.0
_log = structlog.get_logger(__name__)


class Liability(NamedTuple):
    """Sum of all totals, and how many partitions have none, in which case the sum is a lower bound."""

    msat: int
    uncounted: int


async def count_totals(
    redis: Redis, epochs: Mapping[int, int], liability_in: Callable[[int, str], Awaitable[int]]
) -> None:
    """Count partitions that were just claimed, with these epochs, before anything is written to them.

    A partition with an actor that can't be read stays without a total, which is logged. Raises `TransientError`. No
    call is served meanwhile, which takes minutes for millions of actors: so the log shows the progress.
    """
    totals: dict[int, int] = defaultdict(int)
    unreadable = set()
    seen: set[tuple[int, str]] = set()
    began_s = told_s = time.monotonic()
    async for keys in all_actors(redis):
        if (now_s := time.monotonic()) - told_s >= _TELL_EVERY_S:
            told_s = now_s
            _log.info("liabilities_count_begun", **_progress(epochs, seen))
        here = [key for key in keys if key.partition in epochs and key not in seen]
        seen.update(here)
        counted = await asyncio.gather(*(liability_in(*key) for key in here), return_exceptions=True)
        for key, amount in zip(here, counted, strict=True):
            if isinstance(amount, UnknownEventError | BooksError | MoneyError):
                _log.error("actor_not_counted", actor_id=key.actor_id, error=repr(amount))
                unreadable.add(key.partition)
            elif isinstance(amount, BaseException):
                raise amount
            else:
                totals[key.partition] += amount
    if seen:
        took_s = round(time.monotonic() - began_s, 1)
        _log.info("liabilities_counted", **_progress(epochs, seen), took_s=took_s)
    pipe = redis.pipeline(transaction=False)
    for partition in epochs.keys() - unreadable:
        pipe.eval(_COUNTED, 2, *partition_keys(partition, "epoch", "totals"), epochs[partition], totals[partition])
    await guarded(pipe.execute())


def _progress(epochs: Mapping[int, int], seen: set[tuple[int, str]]) -> dict[str, int]:
    return {"partitions": len(epochs), "actors_so_far": len(seen)}


async def sum_totals(redis: Redis) -> Liability:
    """Return the sum that the wallet must hold for all actors. Raises `TransientError`."""
    pipe = redis.pipeline(transaction=False)
    for partition in range(PARTITIONS):
        epoch_key, totals_key = partition_keys(partition, "epoch", "totals")
        pipe.get(epoch_key)
        pipe.hmget(totals_key, "epoch", "liability_msat")
    answers = await guarded(pipe.execute())
    total = uncounted = 0
    for epoch, (kept_epoch, amount) in zip(answers[::2], answers[1::2], strict=True):
        # A partition without an epoch was never claimed, so that it holds nothing.
        if epoch is not None and kept_epoch == epoch:
            total += int(amount)
        elif epoch is not None:
            uncounted += 1
    return Liability(total, uncounted)
