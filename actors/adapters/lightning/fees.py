"""Rule for the reserve of a payout's route: the node's own, or the operator's figures in its place."""

from __future__ import annotations

from msgspec.structs import replace

from ....config.settings import Settings
from ...domain.money import Msat
from ...domain.payments.routing_fees import RoutingFees


def fees_of(rule: RoutingFees, settings: Settings) -> RoutingFees:
    """Return a backend's rule with the operator's figures. The base takes the place of the sum that it begins with."""
    base, per_million = settings.routing_base_sats, settings.routing_per_million
    if per_million is not None:
        rule = replace(rule, per_million=per_million)
    if base is None:
        return rule
    fixed = Msat.from_sats(base)
    return replace(rule, least_msat=fixed) if rule.least_msat else replace(rule, base_msat=fixed)
