"""Spending of credentials under their `max_msat` caveats: a count for each limit, kept while it is not zero.

The counts of a session form a tree: a limit that is appended to a credential with limits lies beneath those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..credentials.caveats import Grant, SpendLimit, violated
from ..errors import Refusal
from ..money import ZERO, Msat
from ..payments.payouts import PayoutTarget, fee_reserve
from .state import Hold, Session

# Each snapshot holds all counts. A limit may have a quarter as many counts beneath it as the limit above it may have.
# Otherwise the holder of one limited credential could use up the counts of all others.
_COUNTS_MAX: Final = 16_384
_SHARE: Final = 4


def limits_of(grant: Grant) -> tuple[SpendLimit, ...]:
    """Return the spend limits that a request under this grant counts towards, each once."""
    return tuple({limit.counter: limit for limit in grant.spend_limits}.values())


def left_by_caveats(session: Session, grant: Grant) -> Iterator[tuple[str, Msat]]:
    """Yield the caveats on spending, each with the amount that it leaves for a request."""
    if grant.max_msat_per_request is not None:
        yield f"max_msat_per_request = {grant.max_msat_per_request.value}", grant.max_msat_per_request
    for limit in grant.spend_limits:
        used = session.counters.get(limit.counter, ZERO)
        yield f"max_msat = {limit.limit_msat.value}", limit.limit_msat - min(used, limit.limit_msat)


def too_many_limits(session: Session, grant: Grant) -> Refusal | None:
    """Return a refusal if this grant's limits without a count would need more counts than the session may have."""
    limits = limits_of(grant)
    new = [not session.counters.get(limit.counter) for limit in limits]
    if not any(new):
        return None
    caveat = f"max_msat = {limits[new.index(True)].limit_msat.value}"
    if len(session.counters) + sum(new) > _COUNTS_MAX:
        message = f"{_COUNTS_MAX} spend limits are in use in this session: use a credential that has spent already."
        return violated(caveat, message)
    most = _COUNTS_MAX
    for place, limit in enumerate(limits):
        most //= _SHARE
        if session.beneath.get(limit.counter, 0) + sum(new[place + 1 :]) > most:
            message = f"Beneath max_msat = {limit.limit_msat.value} of this credential at most {most} can be in use."
            return violated(caveat, message)
    return None


def payout_beyond_limits(grant: Grant, target: PayoutTarget) -> Refusal | None:
    """Return why the credential's caveats on spending forbid this payout, or None.

    Payouts are not counted, so that a limit on their sum could not be enforced across several of them.
    """
    if grant.spend_limits:
        caveat = f"max_msat = {grant.spend_limits[-1].limit_msat.value}"
        return violated(
            caveat,
            "This credential may spend only so much, so nothing is paid out to it: close without an invoice, and have "
            "the holder of the whole macaroon ask for the rest.",
        )
    total, most = target.amount_msat + fee_reserve(target.amount_msat), grant.max_msat_per_request
    if most is not None and total > most:
        message = f"This credential may spend {most.value} msat at once, and the payout takes {total.value}."
        return violated(f"max_msat_per_request = {most.value}", message)
    return None


def counted(session: Session, hold: Hold, more: Msat, less: Msat) -> tuple[Mapping[str, Msat], Mapping[str, int]]:
    """Return the session's `counters` and `beneath` after a hold's spending grows by `more` and falls by `less`."""
    if not hold.counters:
        return session.counters, session.beneath
    counters = {**session.counters, **{name: session.counters.get(name, ZERO) + more - less for name in hold.counters}}
    if not hold.nested:
        return counters, session.beneath
    beneath = dict(session.beneath)
    for place, name in enumerate(hold.counters):
        change = bool(counters[name]) - bool(session.counters.get(name))
        for above in hold.counters[:place] if change else ():
            beneath[above] = beneath.get(above, 0) + change
    # A count of zero is dropped: it can begin again at any time.
    return (
        {name: used for name, used in counters.items() if used or name not in hold.counters},
        {name: count for name, count in beneath.items() if count > 0},
    )
