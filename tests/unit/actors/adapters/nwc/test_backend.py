"""The row of Nostr Wallet Connect in the table."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, cast

import pytest

from satmeter.actors.adapters.nwc.backend import NWC
from satmeter.actors.adapters.nwc.client import NwcLightning
from satmeter.actors.adapters.nwc.rights import RightsTrouble
from satmeter.actors.domain.money import Msat
from satmeter.actors.ports import PermanentError
from satmeter.config.settings import Settings

SECRET = "cd" * 32
WHOLE = f"nostr+walletconnect://{'ab' * 32}?relay=wss://relay.example/x&relay=ws://127.0.0.1:9&secret={SECRET}"


def settings(url: str) -> Settings:
    return Settings(**cast(Any, {"NWC_URL": url}))


async def test_the_row_builds_a_client_and_names_the_relays_without_the_secret() -> None:
    client = NWC.build(settings(WHOLE), spending=True, redis=cast(Any, None))
    assert isinstance(client, NwcLightning)
    await client.close()
    assert NWC.place(settings(WHOLE)) == "a wallet by Nostr Wallet Connect, over relay.example and 127.0.0.1"
    assert NWC.can_pay(settings(WHOLE))
    assert NWC.hidden_addresses(settings(WHOLE)) == ("wss://relay.example/x", "ws://127.0.0.1:9")


@pytest.mark.parametrize("url", ["nonsense", f"nostr+walletconnect://x?secret={SECRET}"])
async def test_an_address_that_cannot_be_read_ends_nothing_and_is_told(url: str) -> None:
    assert NWC.place(settings(url)) == "a wallet by Nostr Wallet Connect"
    assert not NWC.hidden_addresses(settings(url))
    client = NWC.build(settings(url), spending=True, redis=cast(Any, None))
    with pytest.raises(PermanentError, match="NWC_URL can't be read"):
        await client.check()
    await client.close()


async def test_a_library_that_is_missing_ends_nothing_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nostr_sdk", None)
    client = NWC.build(settings(WHOLE), spending=True, redis=cast(Any, None))
    with pytest.raises(PermanentError, match=r"pip install 'satmeter\[nwc\]'"):
        await client.check()
    await client.close()


def test_the_library_is_imported_only_where_it_is_used() -> None:
    code = "import sys, satmeter.actors.bootstrap; sys.exit('nostr_sdk' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_reserve_is_that_of_alby_hub() -> None:
    assert NWC.fees.reserve(Msat.from_sats(100)) == Msat.from_sats(10)
    assert NWC.fees.reserve(Msat.from_sats(5_000)) == Msat.from_sats(50)


def test_every_trouble_has_a_sentence() -> None:
    assert set(NWC.troubles) == set(RightsTrouble)
    assert set(NWC.unusable) <= set(RightsTrouble)
