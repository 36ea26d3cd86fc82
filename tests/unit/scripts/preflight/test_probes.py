"""Probes of the parts that a configuration names."""

from __future__ import annotations

import pytest

from satmeter.config.settings import Settings
from satmeter.scripts.preflight.probes import probe


@pytest.mark.parametrize("address", ["LND_REST_URL", "PHOENIXD_URL", "LNBITS_URL"])
async def test_a_node_without_its_keys_is_neither_asked_nor_called_well(address: str) -> None:
    told: list[str] = []
    found = await probe(Settings.model_validate({address: "http://127.0.0.1:1"}), tell=told.append)
    assert (told, found.problems, found.proofs) == ([], [], ())
