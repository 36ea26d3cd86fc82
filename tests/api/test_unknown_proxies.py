"""Production behind a proxy that the operator did not name: nobody is counted as the proxy, and the operator hears."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from satmeter.config.settings import Environment
from satmeter.http.app import create_app
from tests.helpers.http.fronts import Api, client_of

PROXY = "10.0.0.2"
THROUGH = {"X-Forwarded-For": "203.0.113.5"}
COUNTED = [
    ("POST", "/jobs", {"request": "x"}),
    ("POST", "/sessions", {"amountSats": 100}),
    ("POST", "/ask", {"request": "x"}),
    (
        "POST",
        "/v1/messages",
        {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
    ),
    ("GET", "/demo?request=x", None),
]


def front(api: Api, peer: str = PROXY, **settings: Any) -> Any:
    changed = api.state.settings.model_copy(update={"env": Environment.PRODUCTION, **settings})
    return client_of(create_app(replace(api.state, settings=changed, stub_node=None)), peer)


@pytest.mark.parametrize(("method", "path", "body"), COUNTED, ids=[path for _, path, _ in COUNTED])
async def test_what_is_counted_for_each_client_is_refused(api: Api, method: str, path: str, body: Any) -> None:
    async with front(api) as http:
        answer = await http.request(method, path, json=body, headers=THROUGH)
        assert answer.status_code == 503 and "Retry-After" in answer.headers
        assert answer.json()["code"] == "unavailable"
        assert "SATMETER" not in answer.text and PROXY not in answer.text
        (warning,) = (await http.get("/readyz")).json()["warnings"]
        assert "SATMETER_TRUSTED_PROXIES" in warning and PROXY not in warning
    assert api.world.lightning.orders == {}


async def test_a_named_proxy_and_clients_without_one_are_served(api: Api) -> None:
    async with front(api, trusted_proxies=("10.0.0.0/24",)) as http:
        assert (await http.post("/jobs", json={"request": "x"}, headers=THROUGH)).status_code == 201
        assert "warnings" not in (await http.get("/readyz")).json()
    async with front(api) as http:
        assert (await http.post("/jobs", json={"request": "x"})).status_code == 201
    async with front(api, env=Environment.DEVELOPMENT) as http:
        assert (await http.post("/jobs", json={"request": "x"}, headers=THROUGH)).status_code == 201


async def test_at_the_gate_they_are_not_counted_as_one_either(api: Api) -> None:
    asked = 25
    async with front(api, requests_per_ip=1) as http:
        # With a credential a request is not counted among those of all strangers.
        key = {"Authorization": "Bearer x"}
        through = [(await http.get("/pricing", headers={**THROUGH, **key})).status_code for _ in range(asked)]
        assert set(through) == {200}
        own = [(await http.get("/pricing", headers=key)).status_code for _ in range(asked)]
        assert 429 in own


async def test_what_is_not_counted_goes_on(api: Api) -> None:
    job = await api.create()
    async with front(api) as http:
        assert (await http.get(f"/jobs/{job['jobId']}", headers=THROUGH)).status_code == 200
        assert (await http.get("/pricing", headers=THROUGH)).status_code == 200
