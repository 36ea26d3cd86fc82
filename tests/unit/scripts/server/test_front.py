"""Options of a front's HTTP server."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette

from satmeter.config.settings import Settings
from satmeter.http.edge.connections import Connections
from satmeter.scripts.server.front import server_config


def connections_with(**settings: Any) -> Connections:
    protocol: Any = server_config(Starlette(), Settings(**settings)).http
    connections: Connections = protocol.keywords["connections"]
    return connections


def test_an_idle_connection_outlasts_the_pools_of_proxies() -> None:
    assert connections_with().patience.idle_s == 75
    assert connections_with(keep_alive_s=10).patience.idle_s == 10
