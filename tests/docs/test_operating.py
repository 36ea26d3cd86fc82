"""The models file of the operator's page is one that the server takes."""

from __future__ import annotations

import re
from pathlib import Path

from satmeter.actors.catalogue.loading import model_catalogue, upstream_keys
from satmeter.config.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


def test_the_models_file_of_the_page_can_be_used(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "models.toml"
    path.write_text(text)
    settings = Settings(models_file=path)
    (model,) = model_catalogue(settings).models()
    assert (model.name, model.upstream_model, model.aliases) == ("tiny", "tiny-llama", ("small",))
    assert upstream_keys(settings, {"LOCAL_KEY": "sk-local"}) == {"local": "sk-local"}
