"""Metrics of a real server of several processes: right from whichever front answers, also after some were killed."""

from __future__ import annotations

from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.cluster.sessions import session
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served, free_port, patiently, served

TOKEN = "operators-token-of-this-test"
_ASKS = 12


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return all samples by their names and the values of their labels, in the labels' order."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(server: Served) -> dict[tuple[str, ...], float]:
    """Ask for the metrics by a connection of its own, which any front may take."""
    answer = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    return samples(answer.text)


def asked(found: dict[tuple[str, ...], float]) -> float:
    return found.get(("satmeter_http_requests_total", "POST", "/sessions/{sessionId}/request", "200"), 0)


def test_the_counts_of_all_processes_are_shown_and_none_falls_when_one_is_killed(data_dir: Path) -> None:
    port = free_port()
    with served(
        data_dir, SATMETER_HOSTS="2", SATMETER_WORKERS="2", OPERATOR_TOKEN=TOKEN, SATMETER_METRICS_PORT=str(port)
    ) as server:
        spent = 0
        for _ in range(_ASKS // 3):
            # Each has connections of its own, so that both fronts and both hosts get some.
            with session(server) as client:
                for _ in range(3):
                    client.ask()
                spent += client.show()["spentMsat"]
        before = scrape(server)
        assert asked(before) == _ASKS
        assert before["satmeter_msat_total", "debited"] == spent
        assert before["satmeter_msat_total", "received"] == 1_000_000 * _ASKS // 3
        assert before["satmeter_effect_seconds_count", "answer"] == _ASKS
        assert (before["satmeter_processes", "front"], before["satmeter_processes", "host"]) == (2, 2)
        assert all(
            samples(httpx.get(f"http://127.0.0.1:{port}/metrics").text)[name] >= before[name] for name in GROWING
        )

        server.kill("ray::HostActor")
        server.kill("satmeter.scripts.server.front")

        def back() -> bool:
            try:
                found = scrape(server)
            except httpx.HTTPError:
                return False
            return (found["satmeter_processes", "front"], found["satmeter_processes", "host"]) == (2, 2)

        patiently(back, "the killed processes' successors hand nothing over")
        after = scrape(server)
        fallen = {
            name
            for name, value in before.items()
            if name[0].endswith(("_total", "_bucket", "_count")) and after.get(name, 0) < value
        }
        assert fallen == set()
        with session(server) as client:
            client.ask()
        assert asked(scrape(server)) == _ASKS + 1


GROWING = [("satmeter_msat_total", "debited"), ("satmeter_http_requests_total", "POST", "/sessions", "201")]
