"""Ids of invoices that name no actor, and show which store made them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.lightning.descriptions import actor_in, description_of
from satmeter.actors.adapters.lightning.invoice_ids import invoice_id, is_of, new_random
from satmeter.actors.domain.money import Msat
from satmeter.actors.domain.payments.invoices import Settlement
from satmeter.actors.ports import InvoiceOrder

KEY, OTHER = b"k" * 32, b"x" * 32


def test_an_id_is_of_the_key_that_made_it_and_of_no_other() -> None:
    named = invoice_id(KEY, new_random())
    assert is_of(KEY, named) and not is_of(OTHER, named)


def test_an_id_names_no_actor_and_is_read_back_from_a_description() -> None:
    named = invoice_id(KEY, new_random())
    assert Settlement("ab" * 32, Msat(1), named).made_ahead
    assert actor_in(description_of(InvoiceOrder(1, "memo", 60, named))) == named


def test_ids_of_former_versions_and_of_actors_are_of_no_key() -> None:
    for named in (f"pool_{'0a' * 16}", "pool_", "pool", "", "ses_0123456789abcdef0123456789abcdef", "job_é"):
        assert not is_of(KEY, named)


@given(st.integers(0, 47), st.sampled_from("0123456789abcdefgz-_"))
def test_a_changed_id_is_of_no_key(place: int, letter: str) -> None:
    random, code = invoice_id(KEY, "0a" * 16)[5:37], invoice_id(KEY, "0a" * 16)[37:]
    text = random + code
    changed = text[:place] + letter + text[place + 1 :]
    assert is_of(KEY, f"pool_{changed}") is (changed == text)


@given(st.text(max_size=80))
def test_any_text_is_answered_for(text: str) -> None:
    assert not is_of(KEY, text) and not is_of(KEY, f"pool_{text}")
