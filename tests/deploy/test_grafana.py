"""Dashboard and alerts: valid by Prometheus's own tools and Grafana's own types, and about metrics that there are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from satmeter.scripts.metrics_table import exposed
from tests.helpers.installed import NotInstalledError, node_modules
from tests.helpers.patience import PROGRAM_S
from tests.helpers.prometheus import GRAFANA, alerts, dashboard, panel_expressions, program, selectors

HERE = Path(__file__).parent / "grafana"
PAGE = Path(__file__).parents[2] / "docs" / "operating.md"
METRICS = {each.name: each for each in exposed()}
# Prometheus adds these itself.
ITS_OWN = {"job", "instance"}


def promtool(*words: str) -> None:
    run = subprocess.run([program("promtool"), *words], capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_rules_and_the_configuration_are_valid() -> None:
    promtool("check", "rules", str(GRAFANA / "alerts.yaml"))
    promtool("check", "config", "--syntax-only", str(GRAFANA / "prometheus.yaml"))


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    promtool("test", "rules", str(HERE / "alerts_test.yaml"))
    tested = set(re.findall(r"^  - name: (Satmeter\w+)$", (HERE / "alerts_test.yaml").read_text(), re.MULTILINE))
    assert tested == {alert["alert"] for alert in alerts()}


def test_each_alert_says_what_to_do() -> None:
    lines = dict(re.findall(r'^\| <a id="(\w+)"></a>`(Satmeter\w+)` \| .+ \|$', PAGE.read_text(), re.MULTILINE))
    for alert in alerts():
        name = alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["annotations"]["summary"].endswith(".")
        assert alert["annotations"]["runbook"] == f"docs/operating.md#{name.lower()}"
        assert lines.get(name.lower()) == name, f"docs/operating.md has no line about {name}"


EXPRESSIONS = [*panel_expressions(), *((alert["alert"], alert["expr"]) for alert in alerts())]


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=str)
def test_an_expression_names_only_metrics_and_labels_that_there_are(where: str, expression: str) -> None:
    named = selectors(expression)
    assert named
    labels: set[str] = set()
    for name, matchers in named:
        if name == "up":
            assert set(matchers) <= ITS_OWN
            continue
        histogram = METRICS.get(re.sub(r"_(bucket|sum|count)$", "", name))
        metric = METRICS.get(name) or histogram
        assert metric is not None, name
        assert (metric.type == "histogram") is (name != metric.name), f"{name} has no samples of its own"
        its_own = {*metric.labels, *ITS_OWN, *(("le",) if name.endswith("_bucket") else ())}
        assert set(matchers) <= its_own, name
        labels |= its_own
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(grouped.replace(" ", "").split(",")) <= labels


def test_each_metric_but_a_few_is_on_the_dashboard_or_in_an_alert() -> None:
    used = {re.sub(r"_(bucket|sum|count)$", "", name) for _, text in EXPRESSIONS for name, _ in selectors(text)}
    left_out = set(METRICS) - used - {re.sub(r"_(bucket|sum|count)$", "", name) for name in METRICS if name in used}
    assert left_out == {
        "process_max_fds",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
        "satmeter_build_info",
        "satmeter_unknown_payouts_msat",
    }


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels: list[dict[str, Any]] = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


def test_the_dashboard_is_one_by_grafana_s_published_types(tmp_path: Path) -> None:
    try:
        modules = node_modules(HERE, "grafana")
    except NotInstalledError as error:
        pytest.skip(str(error))
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "checked.ts").write_text((HERE / "checked.ts").read_text())
    text = (GRAFANA / "dashboard.json").read_text()
    (tmp_path / "dashboard.ts").write_text(
        f'import type {{ Checked }} from "./checked";\nconst dashboard: Checked = {text};\nexport default dashboard;\n'
    )
    words = [
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "--module",
        "esnext",
        "--moduleResolution",
        "bundler",
        "--target",
        "es2022",
    ]
    tsc = [str(modules / ".bin" / "tsc"), *words, "dashboard.ts"]
    run = subprocess.run(tsc, cwd=tmp_path, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert run.returncode == 0, run.stdout
