"""Spending of credentials under their `max_msat` and `max_msat_per` caveats: a count for each limit while it is not 0.

The counts of a session form a tree: a limit that is appended to a credential with limits lies beneath those. The count
of a limit that renews belongs to one window, an hour, a day or a week, and ends with it. A request counts in the
windows of the time at which its hold was placed, whenever it ends.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple, TypeVar

from msgspec.structs import replace

from ..credentials.caveats import Grant, SpendLimit, violated
from ..errors import Code, Refusal
from ..money import ZERO, Msat
from ..payments.payouts import PayoutTarget, reserve_for
from ..payments.routing_fees import RoutingFees
from ..timestamps import timestamp
from .state import Hold, LimitOfHold, Session, Window

# Each snapshot holds all counts. A limit may have a quarter as many counts beneath it as the limit above it may have.
# Otherwise the holder of one limited credential could use up the counts of all others.
_COUNTS_MAX: Final = 16_384
_SHARE: Final = 4
RENEWS_AT: Final = "renewsAt"
"""The field of a refusal, and of a notice, with the time from which a budget can be spent again."""

ValueT = TypeVar("ValueT")

_NOT_YOURS = "This credential is narrowed, so it can't name who gets the session's rest: use the whole macaroon."


def limits_of(grant: Grant) -> tuple[SpendLimit, ...]:
    """Return the spend limits that a request under this grant counts towards, each once."""
    return tuple({limit.counter: limit for limit in grant.spend_limits}.values())


class Left(NamedTuple):
    """An amount that a caveat leaves for a request now. `renews_ms`: the time from which it leaves `limit_msat`."""

    caveat: str
    amount_msat: Msat
    limit_msat: Msat
    renews_ms: int | None = None


def left_by_caveats(session: Session, grant: Grant, now_ms: int) -> Iterator[Left]:
    """Yield what each caveat on spending leaves for a request. The session's counts must be `renewed`."""
    if grant.max_msat_per_request is not None:
        text = f"max_msat_per_request = {grant.max_msat_per_request.value}"
        yield Left(text, grant.max_msat_per_request, grant.max_msat_per_request)
    for limit in grant.spend_limits:
        used = session.counters.get(limit.counter, ZERO)
        left = limit.limit_msat - min(used, limit.limit_msat)
        yield Left(limit.caveat, left, limit.limit_msat, counting_now(session, limit, now_ms).to_ms)


def beyond_caveats(left: Sequence[Left], required: Msat, now_ms: int) -> Refusal | None:
    """Return a refusal if one of these caveats leaves less than is required.

    It names the caveat that lasts longest, so that a holder never waits for a budget and is refused all the same.
    """
    beyond = [each for each in left if required > each.amount_msat]
    if not beyond:
        return None
    for_good = [each for each in beyond if each.renews_ms is None or required > each.limit_msat]
    last = for_good[0] if for_good else max(beyond, key=lambda each: each.renews_ms or 0)
    message = f"This credential may spend {last.amount_msat.value} msat more, and the request can cost {required.value}"
    details = {"caveat": last.caveat, "requiredMsat": required.value, "leftMsat": last.amount_msat.value}
    if for_good or last.renews_ms is None:
        return Refusal(Code.CAVEAT_VIOLATED, f"{message}.", details)
    renews_at, wait_ms = timestamp(last.renews_ms), last.renews_ms - now_ms
    message = f"{message}. Its budget renews at {renews_at}."
    return Refusal(Code.CAVEAT_VIOLATED, message, {**details, RENEWS_AT: renews_at}, -(-wait_ms // 1_000))


def too_many_limits(session: Session, grant: Grant) -> Refusal | None:
    """Return a refusal if this grant's limits without a count would need more counts than the session may have."""
    limits = limits_of(grant)
    new = [not session.counters.get(limit.counter) for limit in limits]
    if not any(new):
        return None
    caveat = limits[new.index(True)].caveat
    if len(session.counters) + sum(new) > _COUNTS_MAX:
        message = f"{_COUNTS_MAX} spend limits are in use in this session: use a credential that has spent already."
        return violated(caveat, message)
    most = _COUNTS_MAX
    for place, limit in enumerate(limits):
        most //= _SHARE
        if session.beneath.get(limit.counter, 0) + sum(new[place + 1 :]) > most:
            message = f"Beneath {limit.caveat} of this credential at most {most} can be in use."
            return violated(caveat, message)
    return None


def payout_beyond_limits(grant: Grant, target: PayoutTarget, fees: RoutingFees) -> Refusal | None:
    """Return why the credential's caveats on spending forbid this payout, or None.

    Payouts are not counted, so that a limit on their sum could not be enforced across several of them.
    """
    if grant.spend_limits:
        return violated(
            grant.spend_limits[-1].caveat,
            "This credential may spend only so much, so nothing is paid out to it: close without an invoice, and have "
            "the holder of the whole macaroon ask for the rest.",
        )
    total, most = target.amount_msat + reserve_for(target, fees), grant.max_msat_per_request
    if most is not None and total > most:
        message = f"This credential may spend {most.value} msat at once, and the payout takes {total.value}."
        return violated(f"max_msat_per_request = {most.value}", message)
    return None


def narrowed(grant: Grant) -> Refusal | None:
    """Return which caveat forbids to name a destination, or None.

    It moves all that the session will ever owe, also after the credential's own time. So no limit on amount or time can
    hold, and a holder under one must not redirect the money.
    """
    if grant.spend_limits:
        return violated(grant.spend_limits[-1].caveat, _NOT_YOURS)
    if grant.max_msat_per_request is not None:
        return violated(f"max_msat_per_request = {grant.max_msat_per_request.value}", _NOT_YOURS)
    if grant.expires_at_s is not None:
        return violated(f"expires_at = {grant.expires_at_s}", _NOT_YOURS)
    return None


def counting_now(session: Session, limit: SpendLimit, now_ms: int) -> LimitOfHold:
    """Return the limit as a hold that is placed now counts towards it.

    A host whose clock is behind counts in the latest window of the session: an earlier one's count may be gone.
    """
    if limit.period is None:
        return LimitOfHold(limit.limit_msat)
    return LimitOfHold(limit.limit_msat, limit.period, limit.period.begin_ms(max(now_ms, session.counted_ms)))


def renewed(session: Session, now_ms: int) -> Session:
    """Return the session without the counts whose window is over by now."""
    at_ms = max(now_ms, session.counted_ms)
    over = {name: window for name, window in session.windows.items() if window.to_ms <= at_ms}
    if not over:
        return session
    beneath = dict(session.beneath)
    for window in over.values():
        _add(beneath, window.above, -1)
    return replace(
        session,
        counters=_without(session.counters, over),
        beneath=beneath,
        windows=_without(session.windows, over),
        counted_ms=at_ms,
    )


def begun(session: Session, hold: Hold) -> Session:
    """Return the session in whose windows this new hold counts."""
    session = renewed(session, hold.at_ms)
    windows = {
        name: Window(limit.from_ms, limit.to_ms, hold.counters[:place])
        for place, (name, limit) in enumerate(counting(hold))
        if limit is not None and limit.to_ms is not None
    }
    if not windows:
        return session
    return replace(session, windows={**session.windows, **windows}, counted_ms=max(session.counted_ms, hold.at_ms))


def counted(session: Session, hold: Hold, more: Msat, less: Msat) -> Session:
    """Return the session after a hold's spending grows by `more` and falls by `less`, in the windows of the hold."""
    if not hold.counters:
        return session
    names = [name for name, limit in counting(hold) if limit is None or in_window(session, name, limit)]
    counters = {**session.counters, **{name: session.counters.get(name, ZERO) + more - less for name in names}}
    if not hold.nested:
        return replace(session, counters=counters)
    beneath = dict(session.beneath)
    for name in names:
        change = bool(counters[name]) - bool(session.counters.get(name))
        _add(beneath, hold.counters[: hold.counters.index(name)] if change else (), change)
    # A count of zero is dropped: it can begin again at any time.
    ended = {name for name in names if not counters[name]}
    return replace(
        session,
        counters=_without(counters, ended),
        beneath=beneath,
        windows=_without(session.windows, ended),
    )


def counting(hold: Hold) -> Iterator[tuple[str, LimitOfHold | None]]:
    """Yield the names of the counts of a hold, each with its limit; None in journals that had none."""
    return zip_longest(hold.counters, hold.limits)


def in_window(session: Session, name: str, limit: LimitOfHold) -> bool:
    """Return whether the session's count of this name belongs to the limit's window. A later one began from zero."""
    if limit.period is None:
        return True
    window = session.windows.get(name)
    return window is not None and window.from_ms == limit.from_ms


def _add(beneath: dict[str, int], above: Iterable[str], change: int) -> None:
    for name in above:
        count = beneath.pop(name, 0) + change
        if count > 0:
            beneath[name] = count


def _without(entries: Mapping[str, ValueT], names: Container[str]) -> Mapping[str, ValueT]:
    return {name: value for name, value in entries.items() if name not in names}
