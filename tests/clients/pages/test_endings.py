"""A server that ends and starts again under an open page."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.clients.pages.visits import Visit
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import Served, free_port, served

Visits = Callable[..., Visit]


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Path, int]]:
    """The server's data directory and port."""
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as directory:
        yield Path(directory) / "data", free_port()


@pytest.fixture(scope="module")
def site(place: tuple[Path, int]) -> Iterator[Served]:
    """A server that a test may end."""
    with served(*place, SATMETER_HOSTS="1") as running:
        yield running


def test_a_page_goes_on_when_the_server_starts_again(visit: Visits, site: Served, place: tuple[Path, int]) -> None:
    visitor = visit()
    visitor.expect_refusals(0, 503)
    visitor.deposit(pays=False)
    page = visitor.page
    expect(visitor.button("Pay with the stub")).to_be_visible()
    site.stop()
    expect(page.get_by_role("alert")).to_contain_text("the server may be starting again")
    visitor.assert_accessible()
    with served(*place, SATMETER_HOSTS="1"):
        visitor.button("Pay with the stub").click()
        expect(page.get_by_label("Your message")).to_be_visible()
        visitor.ask("Are you back?")
        visitor.page.reload()
        expect(page.get_by_text("Are you back?").first).to_be_visible()
