"""Plan of a payout to a destination: what may be ordered there, before a stranger's server is asked for an invoice.

The question has the identity of the operation that it belongs to. A client that repeats the operation so joins the
payout that it began, or gets its answer, although the destination would give another invoice this time.
"""

from __future__ import annotations

from ..behaviour import Reply
from ..errors import Code, Refusal
from ..money import Msat
from .payouts import OwingBooks, Refunds
from .routing_fees import RoutingFees


class PayoutPlan(Reply, frozen=True, tag="payout_plan"):
    """The amount to be paid out, zero if there is nothing, and the network of our node."""

    amount_msat: Msat
    network: str


def plan(
    books: OwingBooks, refunds: Refunds, fees: RoutingFees, asked_msat: Msat | None, unspent: Msat, network: str
) -> PayoutPlan | Refusal:
    """Return the plan for the amount that the client asks for, by default all that can be paid out.

    `unspent`: see `OwingBooks.payable`. The caller has checked that no payout is under way.
    """
    largest = books.payable(refunds, fees, unspent)
    if asked_msat is not None and asked_msat > largest:
        text = f"At most {largest.whole_sats} sats can be paid out"
        fields = [{"path": "amountSats", "message": text}]
        return Refusal(Code.INVALID_REQUEST, f"{text}.", {"fields": fields, "maxSats": largest.whole_sats})
    return PayoutPlan(largest if asked_msat is None else asked_msat, network)
