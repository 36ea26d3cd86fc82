"""Webhooks go to public addresses only, whatever a client writes and whatever a name stands for."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from satmeter.config.settings import Settings
from satmeter.config.webhook_policy import Target, TargetError, WebhookTargets, is_public
from satmeter.scripts.preflight.settings_checks import problems

PUBLIC = ["8.8.8.8", "1.1.1.1", "203.0.114.1", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "::ffff:8.8.8.8"]
PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.1.2.3", "169.254.1.1", "169.254.169.254",
    "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
    "3fff::1", "5f00::1",
]  # fmt: skip
NOTHING = WebhookTargets()


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    assert NOTHING.target(f"https://{host}/hook").path == "/hook"
    assert NOTHING.permits("example.org", [ip_address(address)])


@pytest.mark.parametrize("address", PRIVATE)
def test_all_others_are_not(address: str) -> None:
    assert not is_public(ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(TargetError):
        NOTHING.target(f"https://{host}/hook")
    assert not NOTHING.permits("example.org", [ip_address(address)])
    # One among good ones is enough: which of them would be taken, nobody should have to know.
    assert not NOTHING.permits("example.org", [ip_address("8.8.8.8"), ip_address(address)])


def test_a_name_without_addresses_is_none() -> None:
    assert not NOTHING.permits("example.org", [])


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.org", Target("https", "example.org", 443, "/")),
        ("https://Example.ORG:443/a/b?c=d&e", Target("https", "example.org", 443, "/a/b?c=d&e")),
        ("https://example.org?x", Target("https", "example.org", 443, "/?x")),
        ("https://xn--bcher-kva.example/", Target("https", "xn--bcher-kva.example", 443, "/")),
    ],
)
def test_a_good_url_is_taken_apart(url: str, target: Target) -> None:
    assert NOTHING.target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "http://example.org/", "ftp://example.org/", "file:///etc/passwd", "//example.org/",
        "https://", "https:///hook", "https://example.org:8443/", "https://example.org:80/", "https://example.org:0/",
        "https://example.org:x/", "https://example.org:99999/", "https://user@example.org/", "https://a:b@example.org/",
        "https://example.org/#part", "https://example.org\\@127.0.0.1/", "https://exa mple.org/",
        "https://example.org/a b", "https://example.org/\r\nX: y", "https://example.org/\x00", "https://bücher.example/",
        "https://[::1", "https://[::1%25eth0]/", "https://127.0.0.1/", "https://[::ffff:127.0.0.1]/",
        "https://-example.org/", "https://a..b/", "https://" + "a" * 64 + ".org/", "https://example.org/" + "a" * 500,
        "https://ex%61mple.org/", "https://example.org%2f@127.0.0.1/",
    ],
)  # fmt: skip
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(TargetError, match="Must "):
        NOTHING.target(url)


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "metadata.internal"])
def test_a_name_in_disguise_is_refused_by_what_it_stands_for(host: str) -> None:
    """Such names are for the resolver to read, and for the check of its answer to refuse."""
    assert NOTHING.target(f"https://{host}/").host == host
    assert not NOTHING.permits(host, [ip_address("127.0.0.1")])


def test_the_operator_may_allow_hosts_addresses_and_networks() -> None:
    targets = WebhookTargets(("receiver.internal", "10.1.0.0/16", "::1", "LOCALHOST"))
    assert targets.target("http://receiver.internal:8080/x") == Target("http", "receiver.internal", 8080, "/x")
    assert targets.target("http://10.1.2.3:9/").port == 9
    assert targets.target("http://[::1]:9/").host == "::1"
    assert targets.permits("receiver.internal", [ip_address("10.9.9.9")])
    assert targets.permits("example.org", [ip_address("10.1.2.3")])
    assert not targets.permits("example.org", [ip_address("10.2.0.1")])
    assert targets.permits("localhost", [ip_address("127.0.0.1")])
    for other in ("http://example.org/", "http://10.2.0.1/", "https://other.internal:8443/", "https://127.0.0.1/"):
        with pytest.raises(TargetError):
            targets.target(other)


@pytest.mark.parametrize(
    "host", ["evil-receiver.internal", "x.receiver.internal", "receiver.internal.example", "receiver", "internal"]
)
def test_a_host_is_allowed_by_its_whole_name_alone(host: str) -> None:
    targets = WebhookTargets(("receiver.internal",))
    with pytest.raises(TargetError):
        targets.target(f"http://{host}:8080/")
    assert not targets.permits(host, [ip_address("10.9.9.9")])


@pytest.mark.parametrize("host", ["receiver.internal.", "RECEIVER.internal"])
def test_an_allowed_name_is_the_same_in_capitals_and_with_a_dot_behind_it(host: str) -> None:
    targets = WebhookTargets(("receiver.internal",))
    assert targets.permits(targets.target(f"http://{host}/").host, [ip_address("10.9.9.9")])


def test_what_is_no_host_in_the_setting_is_told_at_the_start() -> None:
    (problem,) = problems(Settings(webhook_allow=("good.example", "10.0.0.0/33")))
    assert problem.variable == "SATMETER_WEBHOOK_ALLOW"
    assert "10.0.0.0/33" in problem.message
    assert problems(Settings(webhook_allow=("good.example", "10.0.0.0/8"))) == []
