"""The forms of REDIS_URL, and what is said about one that can't be used."""

from __future__ import annotations

import pytest

from satmeter.config.store_url import Address, StoreKind, parse_store_url


@pytest.mark.parametrize(
    "url", ["redis://store", "redis://:pa%2Fss@store:6380/3", "rediss://[::1]:6379?ssl_cert_reqs=none", "unix:///a/b"]
)
def test_a_single_server_is_left_to_the_client(url: str) -> None:
    store = parse_store_url(url)
    assert (store.kind, store.text) == (StoreKind.SINGLE, url)


def test_sentinels_are_named_with_the_master_that_they_watch() -> None:
    store = parse_store_url("redis+sentinel://me:p%40ss@one:26380,two,[::1]:5/mymaster/2")
    assert (store.kind, store.master) == (StoreKind.SENTINEL, "mymaster")
    assert store.addresses == (Address("one", 26_380), Address("two", 26_379), Address("::1", 5))
    assert store.server(Address("db", 7)) == "redis://me:p%40ss@db:7/2"
    assert store.sentinel(store.addresses[2]) == "redis://[::1]:5"


def test_sentinels_may_have_a_password_of_their_own() -> None:
    store = parse_store_url(
        "rediss+sentinel://:p@one/main?sentinel_username=eve&sentinel_password=a%26b&ssl_cert_reqs=none"
    )
    assert store.server(Address("db", 7)) == "rediss://:p@db:7?ssl_cert_reqs=none"
    assert store.sentinel(store.addresses[0]) == "rediss://one:26379?ssl_cert_reqs=none&username=eve&password=a%26b"


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    store = parse_store_url("rediss+cluster://me:pass@one,two:7001/0?ssl_ca_certs=/ca.pem")
    assert (store.kind, store.addresses) == (StoreKind.CLUSTER, (Address("one", 6_379), Address("two", 7_001)))
    assert store.server(Address("three", 1)) == "rediss://me:pass@three:1/0?ssl_ca_certs=%2Fca.pem"


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("store:6379", "must begin with redis://"),
        ("http://store", "must begin with redis://"),
        ("unix+cluster:///a", "must begin with redis://"),
        ("redis+ring://store", "must begin with redis://"),
        ("redis://", "no host"),
        ("redis://:PASSWORD@", "no host"),
        ("redis://store:port", "host or port"),
        ("unix://", "no socket"),
        ("redis+sentinel:///mymaster", "no host"),
        ("redis+cluster://", "no host"),
        ("redis+sentinel://one,two:26379", "does not name the master"),
        ("redis+sentinel://one/mymaster/first", "number of a database"),
        ("redis+cluster://one/1", "database 0 only"),
        ("redis+cluster://one/x", "number of a database"),
        ("redis+cluster://one:70000", "not a number up to"),
        ("redis+cluster://me:PASSWORD", "not a number up to"),
        ("redis+cluster://o ne", "hosts can't be read"),
        ("redis+cluster://me:PASSWORD@PASS@one", "can't be read"),
        ("redis+cluster://me:PASS/WORD@one", "reserved characters"),
    ],
)
def test_what_is_missing_is_said_without_any_secret(url: str, word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        parse_store_url(url)
    assert "PASS" not in str(caught.value)
