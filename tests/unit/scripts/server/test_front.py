"""Options of a front's HTTP server."""

from __future__ import annotations

from starlette.applications import Starlette

from satmeter.config.settings import Settings
from satmeter.scripts.server.front import server_config


def test_an_idle_connection_outlasts_the_pools_of_proxies() -> None:
    assert server_config(Starlette(), Settings()).timeout_keep_alive == 75
    assert server_config(Starlette(), Settings(keep_alive_s=10)).timeout_keep_alive == 10
