"""Rights that a macaroon lists, against macaroons that pymacaroons wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.lnd.messages import Failure
from satmeter.actors.adapters.lnd.rights import (
    NEEDED,
    MacaroonError,
    MacaroonTrouble,
    caveats_of,
    is_about_macaroon,
    may,
    rights_of,
    shortage,
    surplus,
)
from tests.lightning.stand_ins.lnd.macaroons import ADMIN, INVOICES, READ_ONLY, bake

KEY = b"k" * 32
NEEDED_RIGHTS = frozenset(f"uri:{method}" for method in NEEDED)


def test_the_rights_are_those_that_were_baked() -> None:
    assert rights_of(bake(KEY, ADMIN)) == frozenset(ADMIN)
    assert rights_of(bake(KEY, NEEDED_RIGHTS)) == NEEDED_RIGHTS


def test_just_the_methods_that_are_called_are_enough_and_not_too_much() -> None:
    assert shortage(NEEDED_RIGHTS) is None
    assert not surplus(NEEDED_RIGHTS)


@pytest.mark.parametrize("method", NEEDED)
def test_each_method_is_missed(method: str) -> None:
    rights = NEEDED_RIGHTS - {f"uri:{method}"}
    assert [each for each in NEEDED if not may(rights, each)] == [method]
    assert shortage(rights) is not None


def test_the_files_that_lnd_writes_have_too_much_or_too_little() -> None:
    assert shortage(frozenset(ADMIN)) is None
    assert {"onchain:write", "macaroon:generate"} <= set(surplus(frozenset(ADMIN)))
    assert shortage(frozenset(INVOICES)) is MacaroonTrouble.NO_PAYOUTS
    assert shortage(frozenset(READ_ONLY)) is MacaroonTrouble.NO_INVOICES


def test_broad_rights_of_the_same_entities_are_not_too_much() -> None:
    rights = frozenset({"info:read", "invoices:read", "invoices:write", "offchain:read", "offchain:write"})
    assert shortage(rights) is None
    assert not surplus(rights)


def test_a_single_method_that_nothing_here_calls_is_too_much() -> None:
    assert surplus(NEEDED_RIGHTS | {"uri:/lnrpc.Lightning/SendCoins"}) == ["uri:/lnrpc.Lightning/SendCoins"]


def test_caveats_are_told_and_change_no_rights() -> None:
    caveats = ["time-before 2027-01-01T00:00:00Z", "ipaddr 10.0.0.1"]
    narrowed = bake(KEY, NEEDED_RIGHTS, caveats)
    assert caveats_of(narrowed) == caveats
    assert caveats_of(bake(KEY, NEEDED_RIGHTS)) == []
    assert rights_of(narrowed) == NEEDED_RIGHTS


@given(st.binary(max_size=200))
def test_other_bytes_are_not_a_macaroon(data: bytes) -> None:
    try:
        rights_of(data)
    except MacaroonError:
        return


@given(st.integers(0, 200))
def test_a_macaroon_that_was_cut_off_has_no_more_rights(length: int) -> None:
    whole = bake(KEY, ADMIN)
    try:
        rights = rights_of(whole[:length])
    except MacaroonError:
        return
    assert rights <= frozenset(ADMIN)


@pytest.mark.parametrize(
    "words",
    [
        "permission denied",
        "verification failed: signature mismatch after caveat verification",
        "cannot get macaroon: root key with id 0 doesn't exist",
        "expected 1 macaroon, got 0",
    ],
)
def test_lnd_s_words_about_the_macaroon_are_known_whatever_their_code(words: str) -> None:
    assert is_about_macaroon(Failure(2, words))


def test_other_words_are_not_about_the_macaroon() -> None:
    assert not is_about_macaroon(Failure(2, "wallet locked, unlock it to enable full RPC access"))
    assert not is_about_macaroon(Failure(5, "unable to locate invoice"))
