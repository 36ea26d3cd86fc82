"""Keys of the store that more than one module uses. Those of a partition share a hash tag: a cluster node has them all.

satmeter:{p0017}:epoch       the number that every write must carry
satmeter:{p0017}:owner       the host that raised it last, to which the partition's calls go
satmeter:{p0017}:totals      see `totals.py`
satmeter:{p0017}:sums        see `sums.py`, and so `taken`
satmeter:{p0017}:payouts     sorted set of actors whose last payout is unpaid, by the time of its last event
satmeter:{p0017}:due         sorted set of actor ids by due time
satmeter:{p0017}:j:<actor>   list of events; its length is the actor's version
satmeter:{p0017}:s:<actor>   the version, a newline, and a state that spares folding the events before it
satmeter:{p0017}:k:<actor>:<name>   an answer, kept for repeated calls; expires by itself
satmeter:{p0017}:mark:<server>   see `marks.py`
satmeter:invoice:<payment hash>   see `bindings.py`
satmeter:payout:<payment hash>   see `payout_owners.py`
satmeter:invoice_key   see `invoice_key.py`
"""

from __future__ import annotations

import re
from typing import Final

INVOICE_KEY: Final = "satmeter:invoice_key"
JOURNALS: Final = "satmeter:{p*}:j:*"
"""Pattern of all journals, for SCAN."""
JOURNALS_AND_SNAPSHOTS: Final = "satmeter:{p*}:[js]:*"
ACTOR_KEY: Final = re.compile(rb"satmeter:\{p(\d{4})\}:[js]:(.+)", re.DOTALL)
"""Key of a journal or snapshot, with the partition and the actor's id."""


def partition_key(partition: int, name: str) -> str:
    """Return the key of this name in a partition: `epoch`, `owner`, `totals` or `due`."""
    return f"satmeter:{{p{partition:04d}}}:{name}"


def partition_keys(partition: int, *names: str) -> list[str]:
    """Return several keys of a partition."""
    return [partition_key(partition, name) for name in names]


def journal_key(partition: int, actor_id: str) -> str:
    """Return the key of an actor's events."""
    return partition_key(partition, f"j:{actor_id}")


def snapshot_key(partition: int, actor_id: str) -> str:
    """Return the key of an actor's snapshot."""
    return partition_key(partition, f"s:{actor_id}")


def kept_key(partition: int, actor_id: str, name: str) -> str:
    """Return the key of an answer that is kept."""
    return partition_key(partition, f"k:{actor_id}:{name}")


def invoice_key(payment_hash: str) -> str:
    """Return the key of the owner of an invoice that was made ahead."""
    return f"satmeter:invoice:{payment_hash}"


def payout_key(payment_hash: str) -> str:
    """Return the key of the actor that a payout belongs to."""
    return f"satmeter:payout:{payment_hash}"
