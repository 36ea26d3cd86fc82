"""Addresses by which money, keys and texts travel: TLS, this machine, or where the operator allows."""

from __future__ import annotations

from typing import Any

import pytest

from satmeter.config.settings import Settings
from satmeter.scripts.preflight.transport_checks import plain_store, transport_problems


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://store.example", "in the clear"),
        ("redis://:password@10.0.0.5:6379/0", "in the clear"),
        ("redis+sentinel://127.0.0.1,10.0.0.6/main", "in the clear"),
        ("redis+cluster://10.0.0.5", "in the clear"),
        ("rediss://store.example?ssl_cert_reqs=none", "certificate"),
        ("rediss://store.example?ssl_cert_reqs=optional", "certificate"),
        ("rediss://store.example?ssl_check_hostname=False", "certificate"),
        ("rediss+cluster://store.example?ssl_cert_reqs=none", "certificate"),
        ("rediss://store.example", None),
        ("rediss://store.example?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/etc/c.pem&ssl_keyfile=/etc/k.pem", None),
        ("rediss+sentinel://a.example,b.example/main", None),
        ("unix:///run/valkey.sock", None),
        ("redis://127.0.0.1:6379", None),
        ("redis://localhost", None),
        ("redis://[::1]:6379", None),
        ("redis://valkey:6379", None),
    ],
)
def test_a_store_beyond_this_machine_needs_tls_that_is_checked(url: str, words: str | None) -> None:
    message = plain_store(url, ("valkey",))
    assert message is None if words is None else message is not None and words in message
    assert message is None or "password@" not in message


def test_servers_that_a_sentinel_names_count_too() -> None:
    url = "redis+sentinel://127.0.0.1/main"
    assert plain_store(url) is None
    assert plain_store(url, named=["10.0.0.5"]) is not None
    assert plain_store(url, ["10.0.0.5"], ["10.0.0.5"]) is None


@pytest.mark.parametrize("production", [True, False])
def test_price_and_store_may_be_plain_in_development_alone(production: bool) -> None:
    values: dict[str, Any] = {
        "SATMETER_ENV": "production" if production else "development",
        "REDIS_URL": "redis://store.example",
        "BTC_PRICE_URL": "http://price.example",
        "LNBITS_URL": "http://lnbits.example",
    }
    found = [problem.variable for problem in transport_problems(Settings(**values))]
    assert found == (["REDIS_URL", "LNBITS_URL", "BTC_PRICE_URL"] if production else ["LNBITS_URL"])


@pytest.mark.parametrize("production", [True, False])
@pytest.mark.parametrize(
    ("relays", "told"),
    [
        (["wss://relay.example", "ws://127.0.0.1:7000"], []),
        (["wss://relay.example", "ws://other.example/x"], ["other.example"]),
        (["ws://allowed.example", "ws://10.0.0.9"], ["10.0.0.9"]),
    ],
)
def test_production_takes_relays_beyond_this_machine_by_tls_alone(
    relays: list[str], told: list[str], production: bool
) -> None:
    secret = "cd" * 32
    values: dict[str, Any] = {
        "SATMETER_ENV": "production" if production else "development",
        "SATMETER_PLAIN_HTTP_ALLOW": "allowed.example",
        "NWC_URL": f"nostr+walletconnect://{'ab' * 32}?relay={'&relay='.join(relays)}&secret={secret}",
    }
    found = [problem for problem in transport_problems(Settings(**values)) if problem.variable == "NWC_URL"]
    assert len(found) == (len(told) if production else 0)
    for problem, host in zip(found, told, strict=False):
        assert host in problem.message and "wss://" in problem.message and secret not in problem.message


def _traced(url: str) -> Settings:
    return Settings.model_validate({"SATMETER_ENV": "production", "OTEL_EXPORTER_OTLP_ENDPOINT": url})


@pytest.mark.parametrize(
    ("url", "refused"), [("http://10.0.0.9:4318", True), ("http://127.0.0.1:4318", False), ("https://collector", False)]
)
def test_production_sends_traces_in_the_clear_to_this_machine_alone(url: str, refused: bool) -> None:
    found = transport_problems(_traced(url))
    assert ("OTEL_EXPORTER_OTLP_ENDPOINT" in {problem.variable for problem in found}) is refused


def test_production_takes_no_key_of_a_collector_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=x")
    found = {problem.variable for problem in transport_problems(_traced("https://collector"))}
    assert "OTEL_EXPORTER_OTLP_HEADERS" in found
