"""Rule for the reserve of a route with the operator's figures in its place."""

from __future__ import annotations

import pytest

from satmeter.actors.adapters.lightning.fees import fees_of
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.routing_fees import RoutingFees
from satmeter.config.settings import Settings

LARGER = RoutingFees(per_million=10_000, least_msat=Msat(2_000))
SUM = RoutingFees(Msat(4_000), 4_000)


@pytest.mark.parametrize(
    ("rule", "base", "per_million", "fees"),
    [
        (LARGER, None, None, LARGER),
        (LARGER, 5, None, RoutingFees(per_million=10_000, least_msat=Msat(5_000))),
        (LARGER, None, 20_000, RoutingFees(per_million=20_000, least_msat=Msat(2_000))),
        (SUM, 1, 1_000, RoutingFees(Msat(1_000), 1_000)),
    ],
)
def test_the_operators_figures_take_the_place_of_the_nodes(
    rule: RoutingFees, base: int | None, per_million: int | None, fees: RoutingFees
) -> None:
    settings = Settings().model_copy(update={"routing_base_sats": base, "routing_per_million": per_million})
    assert fees_of(rule, settings) == fees
