"""Limits of a front, by its settings."""

from __future__ import annotations

import resource

import pytest

from satmeter.config.settings import Settings
from satmeter.http.edge.limits import limits_of


def test_there_is_always_a_descriptor_left_for_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_024, 1_024))
    assert limits_of(Settings()).connections.all == 768


def test_a_small_front_gives_one_address_no_more_than_all() -> None:
    caps = limits_of(Settings(connections_max=100)).connections
    assert caps == (100, 100, 100)


def test_load_tests_have_no_limits_of_one_address() -> None:
    limits = limits_of(Settings(rate_limits=False))
    assert limits.connections.near == limits.connections.all
    assert limits.arrivals is limits.requests is limits.wrong is limits.rests is None
