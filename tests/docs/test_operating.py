"""The operator's page: its models file is one that the server takes, and its table has all metrics."""

from __future__ import annotations

import re
from pathlib import Path

from satmeter.actors.catalogue.loading import model_catalogue, upstream_keys
from satmeter.config.settings import Settings
from satmeter.scripts.metrics_table import exposed, insert

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


def test_the_models_file_of_the_page_can_be_used(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "models.toml"
    path.write_text(text)
    settings = Settings(models_file=path)
    (model,) = model_catalogue(settings).models()
    assert (model.name, model.upstream_model, model.aliases) == ("tiny", "tiny-llama", ("small",))
    assert upstream_keys(settings, {"LOCAL_KEY": "sk-local"}) == {"local": "sk-local"}


def test_the_table_has_all_metrics_as_they_are() -> None:
    assert insert(PAGE.read_text()) == PAGE.read_text(), "run python -m satmeter.scripts.metrics_table"


def test_metrics_are_named_by_prometheus_s_conventions() -> None:
    for each in exposed():
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", each.name)
        assert each.name.endswith("_total") is (each.type == "counter")
        assert each.help.endswith(".")
        assert not {"session", "job", "id", "actor_id", "host_id", "session_id", "job_id", "client"} & set(each.labels)
