"""The store of Ray's head, as the environment names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from satmeter.scripts.preflight.ray_store import RayStore, ray_store_of


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("store:6379", "redis://store:6379"),
        ("redis://store:6379", "redis://store:6379"),
        ("rediss://store:6379", "rediss://store:6379"),
        ("store:6379,other:6379", "redis://store:6379"),
    ],
)
def test_an_address_is_read_as_ray_reads_it(address: str, url: str) -> None:
    assert ray_store_of({"RAY_REDIS_ADDRESS": address}) == RayStore(url, "", "")


@pytest.mark.parametrize("environment", [{}, {"RAY_REDIS_ADDRESS": ""}, {"RAY_REDIS_PASSWORD": "hidden"}])
def test_without_an_address_ray_has_no_store(environment: dict[str, str]) -> None:
    assert ray_store_of(environment) is None


def test_the_files_of_tls_go_into_the_address() -> None:
    store = ray_store_of({"RAY_REDIS_ADDRESS": "rediss://store:6379", "RAY_REDIS_CA_CERT": "/etc/ca.pem"})
    assert store == RayStore("rediss://store:6379?ssl_ca_certs=%2Fetc%2Fca.pem", "", "")


def test_the_password_comes_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of a file/1\n")
    given = {"RAY_REDIS_ADDRESS": "store:6379", "RAY_REDIS_USERNAME": "ray", "RAY_REDIS_PASSWORD_FILE": str(file)}
    store = ray_store_of(given)
    assert store == RayStore("redis://store:6379", "ray", "of a file/1")
    assert store.with_login() == "redis://ray:of%20a%20file%2F1@store:6379"


def test_without_a_password_there_is_no_login() -> None:
    assert RayStore("redis://store:6379", "ray", "").with_login() == "redis://store:6379"
