"""The models file: what is read from it, and how each fault is told."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from satmeter.actors.catalogue.loading import model_catalogue, upstream_keys
from satmeter.actors.catalogue.tables import CatalogueError
from satmeter.actors.domain.llm.catalogue import Api, ModelEntry, Upstream
from satmeter.actors.domain.pricing import MissingUsage, ModelPrice, Rates, Usage
from satmeter.config.settings import Settings

LOCAL = """
[[upstreams]]
name = "local"
api = "openai"
base_url = "http://127.0.0.1:8080/v1/"
key_env = "LOCAL_KEY"
connect_timeout_s = 2.5
silence_timeout_s = 120
"""
AWAY = """
[[upstreams]]
name = "away"
api = "openai"
base_url = "https://api.example"
"""
RATES = """
input = "1.00"
output = 2
cache_read = "0.10"
cache_write_5m = 1.25
cache_write_1h = "2"
"""
TINY = f"""
[models.tiny]
upstream = ["local", "away"]
model = "tiny-llama"
aliases = ["small", "least"]
per_request = "0.001"
context_tokens = 8192
max_output_tokens = 2048
missing_usage = "count"
{RATES}
"""
PLAIN = f"""
[models."org/plain:7b"]
upstream = "local"
{RATES}
"""
WHOLE = LOCAL + AWAY + TINY + PLAIN
ANTHROPICS = LOCAL + AWAY.replace("openai", "anthropic") + TINY
KEYS = {"LOCAL_KEY": "secret"}


def _settings(tmp_path: Path, text: str, **settings: object) -> Settings:
    path = tmp_path / "models.toml"
    path.write_text(text, encoding="utf-8")
    return Settings.model_validate({"SATMETER_MODELS_FILE": path, **settings})


def _faults(settings: Settings) -> list[str]:
    with pytest.raises(CatalogueError) as caught:
        upstream_keys(settings, {"LOCAL_KEY": "secret"})
    assert {variable for variable, _ in caught.value.faults} <= {"SATMETER_MODELS_FILE", "SATMETER_RATES"}
    return [text for _, text in caught.value.faults]


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    catalogue = model_catalogue(_settings(tmp_path, WHOLE, SATMETER_MODEL_TIMEOUT_S=77))
    assert catalogue.upstreams == (
        Upstream("local", Api.OPENAI, "http://127.0.0.1:8080/v1", 2.5, 120),
        Upstream("away", Api.OPENAI, "https://api.example", 5, 77),
    )
    rates = Rates(Decimal(1), Decimal(2), Decimal("0.10"), Decimal("1.25"), Decimal(2))
    assert catalogue.find("small") == ModelEntry(
        name="tiny",
        upstreams=("local", "away"),
        upstream_model="tiny-llama",
        price=ModelPrice("tiny", rates, per_request=Decimal("0.001"), missing_usage=MissingUsage.COUNT),
        aliases=("small", "least"),
        context_tokens=8192,
        max_output_tokens=2048,
    )
    plain = catalogue.find("org/plain:7b")
    assert plain is not None
    assert (plain.upstream_model, plain.aliases, plain.missing_usage) == ("org/plain:7b", (), MissingUsage.BOUND)
    assert (plain.context_tokens, plain.max_output_tokens, plain.upstreams) == (None, None, ("local",))


def test_keys_are_read_apart_from_a_variable_or_from_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "away").write_text("from-file\n")
    text = LOCAL + AWAY + 'key_file = "keys/away"\n' + TINY
    settings = _settings(tmp_path, text)
    assert upstream_keys(settings, KEYS) == {"local": "secret", "away": "from-file"}
    assert upstream_keys(_settings(tmp_path, WHOLE), KEYS) == {"local": "secret", "away": None}
    assert "secret" not in repr(model_catalogue(settings))


def test_the_variable_of_a_key_may_name_a_file(tmp_path: Path) -> None:
    key = tmp_path / "local-key"
    key.write_text("from-file\n")
    key.chmod(0o640)
    settings = _settings(tmp_path, WHOLE)
    assert upstream_keys(settings, {"LOCAL_KEY_FILE": str(key)})["local"] == "from-file"
    for environment, words in (
        ({"LOCAL_KEY_FILE": str(key), **KEYS}, "LOCAL_KEY_FILE: LOCAL_KEY is set, too"),
        ({"LOCAL_KEY_FILE": str(tmp_path)}, "LOCAL_KEY_FILE: "),
        ({}, "LOCAL_KEY is not set here: set it, or LOCAL_KEY_FILE,"),
    ):
        with pytest.raises(CatalogueError) as caught:
            upstream_keys(settings, environment)
        assert [text for _, text in caught.value.faults if "key_env: " in text and words in text]


def test_production_takes_no_key_that_every_user_of_the_machine_can_read(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("from-file\n")
    text = LOCAL + AWAY + 'key_file = "key"\n' + TINY
    settings, environment = _settings(tmp_path, text, SATMETER_ENV="production"), {"LOCAL_KEY_FILE": str(key)}
    key.chmod(0o640)
    assert set(upstream_keys(settings, environment).values()) == {"from-file"}
    key.chmod(0o644)
    with pytest.raises(CatalogueError) as caught:
        upstream_keys(settings, environment)
    assert len([text for _, text in caught.value.faults if "chmod 600" in text]) == 2


def test_without_a_models_file_there_is_one_upstream_with_anthropics_key() -> None:
    settings = Settings.model_validate({"ANTHROPIC_API_KEY": "key", "ANTHROPIC_BASE_URL": "https://gateway.example/"})
    catalogue = model_catalogue(settings)
    assert catalogue.upstreams == (Upstream("anthropic", Api.ANTHROPIC, "https://gateway.example", 5, 300),)
    assert upstream_keys(settings) == {"anthropic": "key"}
    assert upstream_keys(Settings()) == {"anthropic": None}
    for entry in catalogue.models():
        assert (entry.upstreams, entry.upstream_model, entry.aliases) == (("anthropic",), entry.name, ())
        assert (entry.context_tokens, entry.max_output_tokens) in ((1_000_000, 128_000), (200_000, 64_000))


def test_single_figures_are_laid_over_a_models_file(tmp_path: Path) -> None:
    settings = _settings(tmp_path, WHOLE, SATMETER_RATES={"tiny": {"input": "3", "max_output_tokens": 100}})
    tiny = model_catalogue(settings).find("tiny")
    assert tiny is not None and tiny.max_output_tokens == 100
    assert tiny.price.cost_usd(Usage(1_000_000, 0)) == Decimal("3.001")
    unknown = _settings(tmp_path, WHOLE, SATMETER_RATES={"tinny": {"input": "3"}})
    assert [text for text in _faults(unknown) if "has no model tinny: add it there, or correct the name" in text]


def test_a_file_of_the_former_format_keeps_the_limits_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "rates.toml"
    path.write_text(f'["claude-haiku-4-5"]\n{RATES}\n[mine]\n{RATES}')
    catalogue = model_catalogue(Settings.model_validate({"SATMETER_RATES_FILE": path}))
    known, own = catalogue.find("claude-haiku-4-5"), catalogue.find("mine")
    assert known is not None and own is not None and len(catalogue.models()) == 2
    assert (known.context_tokens, known.max_output_tokens, known.price.rates.output) == (200_000, 64_000, Decimal(2))
    assert (own.context_tokens, own.max_output_tokens, own.upstreams) == (None, None, ("anthropic",))


def test_a_models_file_under_the_former_name_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text(WHOLE)
    with pytest.raises(CatalogueError, match=r"\[models.NAME\]: name it by SATMETER_MODELS_FILE"):
        model_catalogue(Settings.model_validate({"SATMETER_RATES_FILE": path}))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[upstreams", ": is not TOML: "),
        ("", ": has no models: add a table [models.NAME] for each."),
        ("models = 5\n" + LOCAL, "[models]: must be a table"),
        (LOCAL + "[models]\ntiny = 5", "[models.tiny]: must be a table"),
        (WHOLE + "[mine]\ninput = '1'", ", mine: a model is a table [models.mine]; a file of the former format"),
        ("upstream = 5\n" + WHOLE, ", upstream: there is no such key."),
        ('[upstreams]\nname = "local"\n' + TINY, "must be an array of tables: write [[upstreams]]"),
        (WHOLE + TINY.replace("tiny]", "tiny]\n"), ": is not TOML: "),
        # Upstreams.
        (WHOLE.replace('name = "local"', ""), "[[upstreams]] 1, name: is missing"),
        (WHOLE.replace('name = "local"', 'name = "lo cal"'), "[[upstreams]] 1, name: must be a name"),
        (WHOLE.replace('"away"\napi', '"local"\napi'), "[[upstreams]]: two have the name local"),
        (WHOLE.replace('"openai"', '"open-ai"', 1), "[[upstreams]] 1, api: must be anthropic or openai."),
        (WHOLE.replace('api = "openai"', "", 1), "[[upstreams]] 1, api: must be anthropic or openai."),
        (WHOLE.replace('base_url = "https://api.example"', ""), "[[upstreams]] 2, base_url: is missing"),
        (WHOLE.replace("https://api.example", "api.example"), "[[upstreams]] 2, base_url: is not an address"),
        (WHOLE.replace("https://api.example", "https://a:99999"), "[[upstreams]] 2, base_url: is not an address"),
        (WHOLE.replace("https://api", "https://u:p@api"), "2, base_url: must have no user, password"),
        (ANTHROPICS.replace("api.example", "api.example/v1"), "2, base_url: must end before /v1"),
        (WHOLE.replace("key_env", "key_enw"), "[[upstreams]] 1, key_enw: there is no such key; did you mean key_env?"),
        (WHOLE.replace("LOCAL_KEY", "OTHER_KEY"), "[[upstreams]] 1, key_env: OTHER_KEY is not set here"),
        (WHOLE.replace("LOCAL_KEY", "sk-key"), "[[upstreams]] 1, key_env: must be the name of an environment variable"),
        (WHOLE.replace("key_env =", 'key_file = "x"\nkey_env ='), "1, key_env: stands beside key_file"),
        (WHOLE.replace('key_env = "LOCAL_KEY"', 'key_file = "none"'), "none can't be read (No such file or directory)"),
        (WHOLE.replace('key_env = "LOCAL_KEY"', 'key_file = "."'), "is not a file: name the file"),
        (WHOLE.replace("2.5", "0"), "[[upstreams]] 1, connect_timeout_s: must be a number of seconds above 0"),
        (WHOLE.replace("2.5", "true"), "[[upstreams]] 1, connect_timeout_s: must be a number of seconds above 0"),
        (WHOLE.replace("= 120", '= "120"'), "[[upstreams]] 1, silence_timeout_s: must be a number of seconds"),
        # Models.
        (WHOLE.replace('upstream = "local"', ""), "upstream: is missing: set it to the name of an upstream"),
        (WHOLE.replace('upstream = "local"', "upstream = []"), "upstream: must be a name, or a list of names"),
        (WHOLE.replace('["local", "away"]', '["lokal"]'), "[models.tiny], upstream: there is no upstream lokal"),
        (WHOLE.replace('["local", "away"]', '["local", "local"]'), "[models.tiny], upstream: has local twice"),
        (ANTHROPICS, "[models.tiny], upstream: has upstreams of two APIs: give the model two names"),
        (WHOLE.replace('"least"', '"org/plain:7b"'), "[models], aliases: org/plain:7b stands for two models"),
        (WHOLE.replace('"least"', '"tiny"'), "[models], aliases: tiny stands for two models, or twice for one"),
        (WHOLE.replace('"least"', '"small"'), "[models.tiny], aliases: has small twice"),
        (WHOLE.replace('["small", "least"]', '"small"'), "[models.tiny], aliases: must be a list of names"),
        (WHOLE.replace('"org/plain:7b"', '"plain 7b"'), "[models.plain 7b]: can't be the name of a model"),
        (WHOLE.replace('"tiny-llama"', '""'), "[models.tiny], model: must be a name"),
        (WHOLE.replace('"count"', '"free"'), "missing_usage: must be bound or count or nothing."),
        (WHOLE.replace("max_output_tokens = 2048", "max_output_tokens = 9000"), "is more than context_tokens"),
        (WHOLE.replace("= 8192", "= 0"), "[models.tiny], context_tokens: must be a whole number from 1"),
        (WHOLE.replace("= 8192", '= "8192"'), "[models.tiny], context_tokens: must be a whole number from 1"),
        (WHOLE.replace("per_request", "per_requests"), "per_requests: there is no such key; did you mean per_request?"),
        (WHOLE.replace('"0.001"', '"-0.001"'), "[models.tiny], per_request: must be a number from 0 to 1000000"),
        (WHOLE.replace("output = 2", "output = -2", 1), "[models.tiny], output: must be a number from 0 to 1000000"),
        (
            WHOLE.replace("output = 2", "ouput = 2", 1),
            "[models.tiny], ouput: there is no such key; did you mean output?",
        ),
        (WHOLE.replace("output = 2", "", 1), "[models.tiny]: output must be set"),
        (WHOLE + "[models.tiny.long_prompt]\nthreshold_tokens = 5", "[models.tiny.long_prompt]: input, output, "),
        (WHOLE + "[models.tiny.multipliers]\nfast = 0.5", "[models.tiny.multipliers], fast: must be a number from 1"),
    ],
)
def test_a_fault_is_told_with_its_file_table_and_key(tmp_path: Path, text: str, told: str) -> None:
    faults = _faults(_settings(tmp_path, text))
    assert [fault for fault in faults if told in fault], faults
    assert all(fault.startswith(str(tmp_path)) and fault.endswith((".", "?")) for fault in faults)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = WHOLE.replace("LOCAL_KEY", "OTHER_KEY").replace('"count"', '"free"').replace("= 120", "= 0")
    faults = _faults(_settings(tmp_path, text.replace('"openai"', '"open-ai"', 1)))
    assert len(faults) == 4
    for key in ("silence_timeout_s", "missing_usage", "key_env", "api"):
        assert [fault for fault in faults if f", {key}: " in fault]


def test_an_upstream_that_no_model_names_is_left_out(tmp_path: Path) -> None:
    settings = _settings(tmp_path, LOCAL + AWAY + PLAIN)
    assert [upstream.name for upstream in model_catalogue(settings).upstreams] == ["local"]
    assert upstream_keys(settings, KEYS) == {"local": "secret"}
