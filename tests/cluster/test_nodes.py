"""A cluster of three nodes as its operator and its clients see it, while it is scaled, upgraded, and loses nodes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.helpers.cluster.load import load
from tests.helpers.cluster.nodes import Nodes, nodes
from tests.helpers.cluster.sessions import Client, check_ledger, session
from tests.helpers.patience import PROGRAM_S
from tests.helpers.served import Served, patiently


@pytest.fixture(scope="module")
def cluster(store_url: str) -> Iterator[Nodes]:
    """One cluster for all tests of the module, which leave it in working order; the last one ends its servers."""
    with Redis.from_url(store_url) as redis:
        redis.flushall()
    telling = {"SATMETER_LOG_LEVEL": "info", "SATMETER_LOG_REQUESTS": "steps"}
    with nodes(3, store_url, SATMETER_HOSTS="1", **telling) as cluster:
        yield cluster


def scale(store_url: str, *words: str) -> str:
    """Return the output of `satmeter scale`."""
    command = [str(Path(sys.executable).with_name("satmeter")), "scale", "--redis-url", store_url, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_session_that_was_opened_at_one_server_is_served_by_all(cluster: Nodes) -> None:
    patiently(lambda: all(len(cluster.hosts(n)) == 1 for n in cluster.servers), "a node has no host")
    with session(cluster.servers[0]) as client:
        spent = client.ask()["debitedMsat"]
        for server in cluster.servers.values():
            client.go_to(server)
            spent += client.ask()["debitedMsat"]
            assert client.show()["spentMsat"] == spent
        check_ledger(client)
    patiently(lambda: any(map(tells_of_its_host, cluster.servers.values())), "no server has the log of its node's host")


def tells_of_its_host(server: Served) -> bool:
    """Return whether the host's entries are in its server's log: Ray, which runs by itself, knows nothing of it."""
    return '"event": "journal_written", "process": "host-' in server.log()


def test_hosts_are_scaled_out_and_in_while_requests_run(cluster: Nodes, store_url: str) -> None:
    with load(cluster.servers) as running:
        assert "5 hosts, all partitions in place." in scale(store_url, "--hosts", "5")
        assert sum(len(cluster.hosts(number)) for number in cluster.servers) == 5
        running.goes_on()
        assert "2 hosts, all partitions in place." in scale(store_url, "--hosts", "2")
        running.goes_on()
        patiently(lambda: sum(len(cluster.hosts(n)) for n in cluster.servers) == 2, "hosts that own nothing stay")
    shown = scale(store_url)
    assert "2 of 2 hosts (as asked for)" in shown
    assert all(f"127.0.0.1:{server.port}" in shown for server in cluster.servers.values())
    assert "3 hosts, all partitions in place." in scale(store_url, "--hosts", "auto")


def test_a_server_is_upgraded_while_requests_run(cluster: Nodes) -> None:
    patiently(lambda: len(cluster.hosts(1)) == 1, "no host on the node")
    with load(cluster.servers) as running:
        running.at.remove(1)
        stopping = cluster.servers[1]
        stopping.stop()
        assert stopping.process.returncode == 0
        assert cluster.hosts(1) == []
        running.goes_on()
        stopping.close()
        cluster.serve(1).wait_until_ready()
        patiently(lambda: len(cluster.hosts(1)) == 1, "the node did not get a host back")
        running.goes_on()


def test_a_node_that_dies_costs_nobody_anything_though_its_server_led(cluster: Nodes, store_url: str) -> None:
    with load(cluster.servers) as running, session(cluster.servers[0]) as idle:
        let_lead(store_url, cluster.servers[2])
        cluster.kill(2)
        running.at.remove(2)
        running.goes_on(50)
        for server in cluster.servers.values():
            idle.go_to(server)
            patiently(lambda: asked(idle), "a server does not answer")


def let_lead(store_url: str, server: Served) -> None:
    """Let this server lead from now on."""
    with Redis.from_url(store_url) as redis:
        (servers,) = redis.scan_iter("satmeter:{cluster}:*:servers")
        (server_id,) = (i for i, found in redis.hgetall(servers).items() if f":{server.port}".encode() in found)
        redis.set(servers.replace(b":servers", b":lead"), server_id, px=3_000)


def asked(client: Client) -> bool:
    """Return whether the session's host answers a request, to be repeated."""
    answer = client.post("request", {"request": "hello", "maxTokens": 50}, "the-same-each-time")
    assert answer.status_code in (200, 503), answer.text
    return answer.status_code == 200


def test_the_last_server_ends_all_actors_and_leaves_ray_alone(cluster: Nodes) -> None:
    assert {name.partition("-")[0] for name in cluster.actors()} == {"host", "oracle", "treasury"}
    for server in list(cluster.servers.values()):
        server.stop()
        assert server.process.returncode == 0
    assert cluster.actors() == []
