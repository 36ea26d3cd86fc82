"""Keys of the store, which must never change: stores of earlier versions are read by them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from satmeter.actors.adapters.redis import keys


def test_keys_are_those_of_all_earlier_versions() -> None:
    assert keys.partition_keys(17, "epoch", "due") == ["satmeter:{p0017}:epoch", "satmeter:{p0017}:due"]
    assert keys.journal_key(1023, "ses_a") == "satmeter:{p1023}:j:ses_a"
    assert keys.snapshot_key(0, "ses_a") == "satmeter:{p0000}:s:ses_a"
    assert keys.kept_key(17, "ses_a", "req_b") == "satmeter:{p0017}:k:ses_a:req_b"
    assert keys.invoice_key("ab") == "satmeter:invoice:ab"
    assert keys.payout_key("ab") == "satmeter:payout:ab"


@pytest.mark.parametrize("made", [keys.journal_key, keys.snapshot_key])
def test_an_actor_is_found_by_the_keys_that_are_written(made: Callable[[int, str], str]) -> None:
    found = keys.ACTOR_KEY.fullmatch(made(17, "ses_a:b\n").encode())
    assert found is not None and (found[1], found[2]) == (b"0017", b"ses_a:b\n")
