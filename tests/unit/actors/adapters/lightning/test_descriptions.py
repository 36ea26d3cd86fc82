"""The actor in an invoice's description: found where we wrote it, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.adapters.lightning.descriptions import actor_in, description_of
from satmeter.actors.ports import InvoiceOrder
from satmeter.http.request.ids import new_job_id, new_session_id


@given(memo=st.text(max_size=80))
def test_the_actor_is_found_behind_any_memo(memo: str) -> None:
    for actor_id in (new_job_id(), new_session_id(), f"pool_{'0f' * 16}"):
        assert actor_in(description_of(InvoiceOrder(1, memo, 60, actor_id))) == actor_id


@pytest.mark.parametrize(
    "description",
    ["", "coffee", "coffee (large)", "(ses_1) coffee", "a(ses_1)", "a (ses_1)\n", "a (ses 1)", "a (SES_1)", "a ()"],
)
def test_a_strangers_invoice_names_no_actor(description: str) -> None:
    assert actor_in(description) is None
