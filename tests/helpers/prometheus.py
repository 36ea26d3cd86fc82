"""A real Prometheus and its promtool, and the expressions that deploy/grafana asks it for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import free_port, patiently

GRAFANA: Final = Path(__file__).parents[2] / "deploy" / "grafana"
# What Grafana puts in the place of its variables.
_VARIABLES: Final = {"$__rate_interval": "10m", "$job": "satmeter", "$instance": ".*"}


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`. In CI it must be there."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"CI needs {name}: .ci/packages installs it")
    if found is None:
        pytest.skip(f"needs {name}: install Debian's package `prometheus`, as .ci/packages does")
    return found


def dashboard() -> dict[str, Any]:
    """The dashboard as it is imported."""
    found: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text())
    return found


def panel_expressions() -> list[tuple[str, str]]:
    """The titles of all panels with their expressions, as Grafana sends them."""
    found = []
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, value in _VARIABLES.items():
                expression = expression.replace(variable, value)
            assert "$" not in expression, expression
            found.append((panel["title"], expression))
    return found


def alerts() -> list[dict[str, Any]]:
    """The alerts in their order."""
    groups = yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def selectors(expression: str) -> list[tuple[str, dict[str, str]]]:
    """The metrics that an expression names, each with its matchers."""
    found = re.findall(r"\b((?:satmeter|process)_\w+|up)\b\s*(?:\{([^}]*(?:\{\w+\}[^}]*)*)\})?", expression)
    return [(name, dict(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', matchers))) for name, matchers in found]


class Prometheus:
    """A Prometheus that is asked by its API."""

    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False)

    def ready(self) -> bool:
        """Return whether it answers yet."""
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The present values of an expression with their labels."""
        answer = self._http.post("/api/v1/query", data={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        return [(found["metric"], float(found["value"][1])) for found in answer["data"]["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """All rules with their state."""
        groups = self._http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def close(self) -> None:
        """End the connections."""
        self._http.close()


@contextmanager
def prometheus(directory: Path, target_port: int, token: str) -> Iterator[Prometheus]:
    """One that scrapes a server every second by deploy/grafana's own configuration."""
    directory.mkdir(parents=True)
    port = free_port()
    (directory / "token").write_text(token + "\n")
    shutil.copy(GRAFANA / "alerts.yaml", directory)
    text = (GRAFANA / "prometheus.yaml").read_text()
    for what, instead in (
        ("scrape_interval: 15s", "scrape_interval: 1s"),
        ("evaluation_interval: 30s", "evaluation_interval: 1s"),
        ("127.0.0.1:8402", f"127.0.0.1:{target_port}"),
        ("/etc/prometheus/satmeter-operator-token", str(directory / "token")),
    ):
        assert what in text
        text = text.replace(what, instead)
    (directory / "prometheus.yaml").write_text(text)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ending_with_us(
                [
                    program("prometheus"),
                    f"--config.file={directory}/prometheus.yaml",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ]
            ),
            stdout=log,
            stderr=log,
        )
    found = Prometheus(port)
    try:
        patiently(found.ready, "Prometheus did not become ready")
        yield found
    finally:
        found.close()
        process.terminate()
        process.wait(PATIENCE_S)
