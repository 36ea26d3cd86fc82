"""The store over TLS, with a CA of its own and certificates of clients: a real server on loopback."""

from __future__ import annotations

import pytest

from satmeter.actors.adapters.redis.client import connect
from satmeter.config.settings import Environment, Settings
from satmeter.scripts.preflight.store_checks import store_problems
from tests.helpers.secure_stores import OF_A_SENTINEL, ROOT, refused_to, tls_cluster, tls_sentinel, tls_store
from tests.unit.actors.adapters.redis.test_client_rights import works


async def told(url: str) -> str:
    (problem,) = await store_problems(Settings(redis_url=url, env=Environment.PRODUCTION))
    assert problem.variable == "REDIS_URL"
    return problem.message


async def test_all_works_over_tls_with_few_rights() -> None:
    async with tls_store() as store:
        await works(connect(store.url), store.url)
        assert await refused_to(store.admin) == []


async def test_all_works_over_tls_on_a_cluster() -> None:
    async with tls_cluster() as (url, nodes):
        await works(connect(url), url)
        assert [await refused_to(node) for node in nodes] == [[], [], []]


async def test_all_works_over_tls_behind_a_sentinel_by_a_user_with_few_rights() -> None:
    assert f"`{' '.join(OF_A_SENTINEL)}`" in (ROOT / "docs" / "operating.md").read_text()
    async with tls_sentinel() as (url, primary):
        await works(connect(url), url)
        assert await refused_to(primary) == []


async def test_what_is_wrong_with_certificates_is_told() -> None:
    async with tls_store() as store:
        assert "ssl_ca_certs" in await told(store.address("cert", "key"))
        assert "ssl_certfile" in await told(store.address("ca"))
        # Its certificate is of another name.
        assert "ssl_ca_certs" in await told(store.address("ca", "cert", "key", host="localhost"))
        other = store.url.replace("ca.pem", "other.pem")
        assert "ssl_ca_certs" in await told(other)
        missing = store.url.replace("ca.pem", "missing.pem")
        assert "can't be read" in await told(missing)
        assert "has no certificate" in await told(store.url.replace("ca.pem", "ca.key"))
        plain = store.url.replace("rediss://", "redis://").partition("?")[0]
        assert "rediss://" in await told(plain)


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_check_hostname=false"])
async def test_a_server_that_is_not_checked_is_one_that_anybody_can_be(option: str) -> None:
    from satmeter.scripts.preflight.transport_checks import plain_store

    assert plain_store(f"rediss://store.example?{option}") is not None
