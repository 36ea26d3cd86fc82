"""Plan of a seed: what happens, and when. Each step has its own chance, so that leaving one out changes no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...actors.domain.pricing import MissingUsage
from .loop import Chance
from .world import Fault

HOSTS: Final = ("host-0", "host-1", "host-2")
STRIKES: Final = (
    Fault.HOST_DEATH,
    Fault.HOST_STOP,
    Fault.HOST_END,
    Fault.MOVE,
    Fault.FRONT_DEATH,
    Fault.TREASURY_DEATH,
    Fault.CLOCK,
    Fault.STORE_AWAY,
    Fault.NODE_AWAY,
    Fault.RECEIVER_AWAY,
)
"""Faults that are steps of their own. The others come by chance, wherever they can."""
DEDICATED_STRIKES: Final = (Fault.DEDICATED_DEATH, Fault.DEDICATED_STOP)
"""Faults that are steps of their own where actors have processes of their own."""
_DEDICATED_PART: Final = 0.3
SERVER_STRIKES: Final = (Fault.SERVER_DEATH, Fault.SERVER_STOP, Fault.MACHINE_DEATH)
"""Faults that are steps of their own where servers keep the hosts in order."""
_SERVERS_PART: Final = 0.3
_ACTIONS: Final = {"open": 14, "ask": 40, "top_up": 6, "look": 8, "close": 12, "job": 14, "refund": 8}
_HOLDERS_PART: Final = 0.4
"""Part of the seeds whose credentials are narrowed and handed on; then most asking and looking is by holders."""
_HOLD_PART: Final = {"ask": 0.6, "look": 0.6}
_DESTINATIONS_PART: Final = 0.4
_TREASURY_PART: Final = 0.3
"""Part of the seeds whose clients name destinations of their refunds."""
_BARE_NODE_PART: Final = 0.3
"""Part of the seeds whose node keeps nothing of ours with a payment; then clients also share invoices."""
_UPSTREAMS_PART: Final = 0.4
"""Part of the seeds whose models have several upstreams, with breakers before them."""
_LONG_STREAMS_PART: Final = 0.2
_SHORT_STREAM: Final = 6
_LONG_STREAM: Final = 60
_STRIKE_PART: Final = 0.12
_GAPS_S: Final = 0.5, 0.5, 0.5, 3.0


@dataclass(frozen=True, slots=True)
class Step:
    """A step: an action of a client, or a fault."""

    number: int
    seed: str
    at_s: float
    name: str
    fault: Fault | None = None


def processes_max_of(seed: int) -> int | None:
    """Return how many actors of a host may have processes of their own at once; None: they share the host's."""
    chance = Chance(f"placement {seed}")
    return chance.choice([3, 50]) if chance.happens(_DEDICATED_PART) else None


def snapshot_every(seed: int) -> int:
    """Return after how many events an actor gets a snapshot."""
    return Chance(f"snapshots {seed}").choice([1, 1, 2, 3, 5, 64])


def has_servers(seed: int) -> bool:
    """Return whether the program's own coordinators start hosts and say which host owns what."""
    return Chance(f"keeping {seed}").happens(_SERVERS_PART)


def has_holders(seed: int) -> bool:
    """Return whether credentials are narrowed and handed on."""
    return Chance(f"holders {seed}").happens(_HOLDERS_PART)


def has_destinations(seed: int) -> bool:
    """Return whether clients name destinations that refunds are paid to by themselves."""
    return Chance(f"destinations {seed}").happens(_DESTINATIONS_PART)


def treasury_pays(seed: int) -> bool:
    """Return whether hosts have no key that spends, and have the treasury pay for them."""
    return Chance(f"treasury {seed}").happens(_TREASURY_PART)


def keeps_owners(seed: int) -> bool:
    """Return whether the node keeps an actor's id with a payment; else the store keeps it."""
    return not Chance(f"owners {seed}").happens(_BARE_NODE_PART)


def upstreams_of(seed: int) -> int:
    """Return how many upstreams each model has; 0: the model is one provider, without a breaker."""
    chance = Chance(f"upstreams {seed}")
    return chance.choice([2, 2, 3]) if chance.happens(_UPSTREAMS_PART) else 0


def pieces_max_of(seed: int) -> int:
    """Return the most pieces of a streamed answer: few, or so many that hosts die and partitions move meanwhile."""
    return _LONG_STREAM if Chance(f"pieces {seed}").happens(_LONG_STREAMS_PART) else _SHORT_STREAM


def missing_usage_of(seed: int) -> MissingUsage | None:
    """Return what an answer without a usage costs, where models have several upstreams."""
    rules = [None, None, MissingUsage.BOUND, MissingUsage.COUNT, MissingUsage.NOTHING]
    return Chance(f"missing usage {seed}").choice(rules) if upstreams_of(seed) else None


def faults_of(seed: int) -> frozenset[Fault]:
    """Return the kinds of faults of a seed: some together find what all together hide."""
    chance = Chance(f"faults {seed}")
    part = chance.choice([0.3, 0.6, 0.9])
    return frozenset(fault for fault in Fault if chance.happens(part))


def steps_of(seed: int, count: int) -> Sequence[Step]:
    """Return the first `count` steps of a seed."""
    steps, at_s = [], 1.0
    gap_s = Chance(f"pace {seed}").choice(_GAPS_S)
    strikes = [
        *STRIKES,
        *(DEDICATED_STRIKES if processes_max_of(seed) else ()),
        *(SERVER_STRIKES if has_servers(seed) else ()),
    ]
    for number in range(count):
        chance = Chance(f"plan {seed}/{number}")
        at_s += chance.expovariate(1 / gap_s)
        fault = chance.choice(strikes) if chance.happens(_STRIKE_PART) else None
        name = chance.choices(list(_ACTIONS), list(_ACTIONS.values()))[0]
        if has_holders(seed) and Chance(f"holder {seed}/{number}").happens(_HOLD_PART.get(name, 0)):
            name = "hold"
        steps.append(Step(number, f"{seed}/{number}", at_s, fault or name, fault))
    return steps
