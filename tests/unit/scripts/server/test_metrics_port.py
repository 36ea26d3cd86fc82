"""Port of its own for the metrics."""

from __future__ import annotations

import socket

import httpx
import pytest

from satmeter.actors.model_health.outage import ModelUp
from satmeter.config.settings import Settings
from satmeter.http.metrics import Metrics
from satmeter.scripts.server.metrics_port import serving_metrics
from tests.helpers.fakes import FakeSolvency


def metrics() -> Metrics:
    return Metrics(FakeSolvency(), ModelUp(), lambda: 0)


async def test_metrics_are_served_on_their_port_without_a_token() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with serving_metrics(metrics(), Settings(metrics_port=port)), httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
        assert (answer.status_code, "satmeter_model_up 1.0" in answer.text) == (200, True)
        missing = await http.get(f"http://127.0.0.1:{port}/")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
        assert missing.headers["x-request-id"] == missing.json()["requestId"]
        refused = await http.post(f"http://127.0.0.1:{port}/metrics")
        assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
        assert refused.headers["allow"] == "GET, HEAD, OPTIONS"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_without_the_setting_there_is_no_port() -> None:
    async with serving_metrics(metrics(), Settings()):
        pass
