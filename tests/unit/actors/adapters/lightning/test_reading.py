"""Answers as values, and nothing else for an answer."""

from __future__ import annotations

import pytest

from satmeter.actors.adapters.lightning.reading import is_payment_hash, read, sane_msat
from satmeter.actors.domain.money import Msat
from satmeter.actors.ports import TransientError


@pytest.mark.parametrize("text", ["", "AB" * 32, "ab" * 31, "ab" * 33, "ab" * 32 + "\n", "zz" * 32])
def test_a_payment_hash_is_32_bytes_in_lower_case_hex(text: str) -> None:
    assert is_payment_hash("0f" * 32) and not is_payment_hash(text)


@pytest.mark.parametrize("amount_msat", [-1, 10**30])
def test_an_impossible_amount_is_rubbish(amount_msat: int) -> None:
    assert sane_msat(21_000) == Msat(21_000)
    with pytest.raises(TransientError):
        sane_msat(amount_msat)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": 1', b'"7"', b"\xff", b"[" * 100_000])
def test_another_answer_is_rubbish(body: bytes) -> None:
    assert read(b'{"a": 7}', dict[str, int]) == {"a": 7}
    with pytest.raises(TransientError, match="rubbish"):
        read(body, dict[str, int])
