"""Sealed addresses of payment pages."""

from __future__ import annotations

import pytest

from satmeter.actors.domain.payments.invoices import ShowInvoice
from satmeter.http.payments.pay_pages import NAME_CHARS, PageOf
from tests.helpers.http.pay_pages import pay_pages as pages
from tests.helpers.jobs import JOB_ID
from tests.helpers.sessions import SESSION_ID

HASH = "12" * 22 + "ab" * 10


def name_of(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.mark.parametrize("actor_id", [JOB_ID, SESSION_ID])
def test_an_address_leads_back_to_its_invoice(actor_id: str) -> None:
    url = pages().url(actor_id, HASH)
    assert url.startswith("/pay/") and len(name_of(url)) == NAME_CHARS
    assert pages().read(name_of(url)) == PageOf(actor_id, ShowInvoice("ab" * 10))


def test_an_address_is_the_same_each_time_and_another_one_for_another_invoice() -> None:
    assert pages().url(JOB_ID, HASH) == pages().url(JOB_ID, HASH)
    other = pages().url(JOB_ID, "34" * 32)
    # Nothing of it is the same, so that two addresses of one job do not show that they belong together.
    shared = [one == two for one, two in zip(name_of(pages().url(JOB_ID, HASH)), name_of(other), strict=True)]
    assert sum(shared) < NAME_CHARS // 2


def test_an_address_shows_no_id_and_no_hash() -> None:
    name = name_of(pages().url(JOB_ID, HASH))
    assert JOB_ID.removeprefix("job_")[:8] not in name and HASH[:8] not in name


def test_an_address_is_absolute_where_the_server_knows_its_own() -> None:
    assert pages(url="https://satmeter.example").url(JOB_ID, HASH).startswith("https://satmeter.example/pay/")


def test_no_other_text_is_an_address() -> None:
    name = name_of(pages().url(JOB_ID, HASH))
    wrong = ["", name[:-1], name + "A", "A" * NAME_CHARS, "\u00e9" * NAME_CHARS, "!" * NAME_CHARS, name.swapcase()]
    wrong += [f"{name[:place]}{'A' if name[place] != 'A' else 'B'}{name[place + 1 :]}" for place in (0, 30, 67)]
    assert [pages().read(text) for text in wrong] == [None] * len(wrong)
    assert pages(b"another key").read(name) is None


def test_addresses_of_the_previous_root_key_are_good() -> None:
    name = name_of(pages(b"old").url(JOB_ID, HASH))
    assert pages(b"new", b"old").read(name) == pages(b"old").read(name)
