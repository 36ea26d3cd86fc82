"""Maker of payment pages' addresses without a front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from satmeter.config.root_key import Keys
from satmeter.config.settings import Settings
from satmeter.http.payments.pay_pages import PayPages
from satmeter.http.state import AppState


@dataclass
class _State:
    pay_page_key: bytes
    previous_keys: Keys | None
    settings: Settings


def pay_pages(key: bytes = b"a key", previous: bytes | None = None, url: str | None = None) -> PayPages:
    """Return the maker for these keys, and the address that the operator has set."""
    former = None if previous is None else Keys(b"", b"", b"", b"", b"", previous, "old")
    return PayPages(cast(AppState, _State(key, former, Settings(public_url=url))))
