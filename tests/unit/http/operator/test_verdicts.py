"""The verdicts at the top: what makes each of them good, worth a look, or bad."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from satmeter.actors.domain.pricing import BtcPrice, PriceOrigin
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.model_health.outage import ModelOutage, ModelWord, Stage
from satmeter.actors.operator.books import OpenPayout, OpenPayouts, Partitions
from satmeter.actors.partitioning import NO_PLACEMENT
from satmeter.actors.placement.membership import ClusterView
from satmeter.actors.ports import Findings, Refusals, Standing, WalletWords
from satmeter.http.operator.figures import Figures
from satmeter.http.operator.verdicts import Grade, verdicts

AT = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
AT_MS = int(AT.timestamp()) * 1_000
VIEW = ClusterView(False, None, NO_PLACEMENT, ())
WELL: dict[str, Any] = {
    "at": AT,
    "takings": None,
    "standing": Standing(True, 1_000_000, 5_000_000, AT_MS),
    "findings": Findings(AT_MS),
    "refusals": Refusals(),
    "price": BtcPrice(Decimal(100_000), PriceOrigin.COINGECKO, AT_MS),
    "unreachable": [],
    "payouts": OpenPayouts(0, []),
    "census": None,
    "partitions": Partitions({"host": 1_024}, 0, VIEW),
    "upstreams": {},
    "answers": {},
}


def payout(*, under_way: bool, age_ms: int = 120_000, sending: bool = False) -> OpenPayouts:
    return OpenPayouts(
        1, [OpenPayout("ses_a", AT_MS - age_ms, under_way, sending, 4_000 if under_way else 0, 7_000, 0, None, None)]
    )


def grades(**changed: Any) -> tuple[str, ...]:
    found = verdicts(Figures(**{**WELL, **changed}), WalletWords())
    return tuple(verdict.grade.value for verdict in found)


def test_all_is_well() -> None:
    assert grades() == ("good", "good", "good")


@pytest.mark.parametrize(
    ("changed", "grade"),
    [
        ({"standing": None}, Grade.LOOK),
        ({"standing": Standing(False, 5_000, 1_000, AT_MS)}, Grade.BAD),
    ],
)
def test_solvency(changed: dict[str, Any], grade: Grade) -> None:
    assert grades(**changed) == (grade.value, "good", "good")


@pytest.mark.parametrize(
    ("changed", "grade"),
    [
        ({"payouts": payout(under_way=True)}, Grade.LOOK),
        ({"payouts": payout(under_way=True, age_ms=1_000, sending=True)}, Grade.GOOD),
        ({"payouts": payout(under_way=False)}, Grade.LOOK),
        ({"payouts": None}, Grade.LOOK),
        ({"findings": None}, Grade.LOOK),
        ({"findings": Findings(AT_MS, unknown_payouts=1, unknown_payouts_msat=5)}, Grade.BAD),
        ({"findings": Findings(AT_MS, long_payouts=1, long_payouts_msat=5)}, Grade.BAD),
        ({"findings": Findings(AT_MS, key_trouble="spending")}, Grade.BAD),
    ],
)
def test_money_that_is_not_accounted_for(changed: dict[str, Any], grade: Grade) -> None:
    assert grades(**changed) == ("good", grade.value, "good")


@pytest.mark.parametrize(
    ("changed", "grade"),
    [
        ({"unreachable": ["lightning"]}, Grade.BAD),
        ({"partitions": Partitions({}, 3, VIEW)}, Grade.BAD),
        (
            {"upstreams": {"a": ModelWord(ModelOutage(Stage.DOWN, ModelFault.FAILING, AT_MS, AT_MS + 9))}},
            Grade.BAD,
        ),
        ({"findings": Findings(AT_MS, store_losses={"a": "everysec"})}, Grade.BAD),
        ({"price": BtcPrice(Decimal(1), PriceOrigin.FALLBACK, AT_MS)}, Grade.LOOK),
        ({"price": BtcPrice(Decimal(1), PriceOrigin.COINGECKO, AT_MS - 7_200_000)}, Grade.LOOK),
    ],
)
def test_what_is_down(changed: dict[str, Any], grade: Grade) -> None:
    assert grades(**changed) == ("good", "good", grade.value)
