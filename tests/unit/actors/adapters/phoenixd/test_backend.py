"""phoenixd's row of the table."""

from __future__ import annotations

from typing import Any, cast

from satmeter.actors.adapters.phoenixd.access import Trouble
from satmeter.actors.adapters.phoenixd.backend import PHOENIXD
from satmeter.actors.adapters.phoenixd.client import PhoenixdLightning
from satmeter.actors.domain.money import Msat
from satmeter.config.settings import Settings
from tests.lightning.stand_ins.phoenixd.books import fee_msat

SETTINGS = Settings(**cast(Any, {"PHOENIXD_URL": "http://127.0.0.1:9740", "PHOENIXD_PASSWORD": "secret"}))


async def test_the_row_builds_a_client_and_names_the_place_without_the_password() -> None:
    client = PHOENIXD.build(SETTINGS, spending=True, redis=cast(Any, None))
    assert isinstance(client, PhoenixdLightning)
    await client.close()
    assert PHOENIXD.place(SETTINGS) == "phoenixd at http://127.0.0.1:9740"
    assert PHOENIXD.can_pay(SETTINGS)


def test_the_reserve_covers_the_price_list() -> None:
    for sats in (1, 2, 249, 250, 251, 12_345, 1_000_000):
        amount = Msat.from_sats(sats)
        assert fee_msat(amount.value) <= PHOENIXD.fees.reserve(amount).value <= fee_msat(amount.value) + 1


def test_every_trouble_has_a_sentence() -> None:
    assert set(PHOENIXD.troubles) == set(Trouble)
    assert set(PHOENIXD.unusable) <= set(Trouble)
