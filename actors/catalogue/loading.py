"""Catalogue of the operator, made of the settings: the models file, or Anthropic's models and one key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from ...config.given_environment import given_environment
from ...config.held_secrets import held
from ...config.secret_files import EXPOSED, SecretFileError, is_exposed, read_secret_files, secret_in
from ...config.secret_names import IN_A_FILE
from ...config.settings import Settings
from ..domain.llm.catalogue import Api, Catalogue, Upstream
from .models_file import (
    CONNECT_TIMEOUT_S,
    MODELS,
    PLAIN_MODEL_KEYS,
    KeySource,
    ModelsFile,
    entries_of,
    parse_models_file,
    toml_of,
)
from .prices import laid_over
from .tables import CatalogueError, Table

ANTHROPIC: Final = "anthropic"
"""Name of the only upstream without a models file."""
_ANTHROPIC_URL: Final = "https://api.anthropic.com"
_MODELS_FILE: Final = "SATMETER_MODELS_FILE"
_RATES_FILE: Final = "SATMETER_RATES_FILE"
_RATES: Final = "SATMETER_RATES"
_SHIPPED: Final = "config/models.toml"


def model_catalogue(settings: Settings) -> Catalogue:
    """Return the models that are sold, and their upstreams. Raises `CatalogueError` with all faults."""
    faults: list[str] = []
    if settings.models_file is not None:
        found = _models_file(settings, settings.models_file, faults)
        _raise(faults, _MODELS_FILE)
        return found.catalogue
    variable, place, tables = _RATES, _SHIPPED, _shipped()
    if settings.rates_file is not None:
        variable, place = _RATES_FILE, str(settings.rates_file)
        tables = _former(_text(_RATES_FILE, settings.rates_file), place, tables, faults)
    for model, override in settings.rates.items():
        tables[model] = laid_over(tables.get(model, {}), override)
    if settings.rates:
        place = f"{place} with {_RATES}"
    entries = entries_of(Table(place, tables, faults), PLAIN_MODEL_KEYS, lambda _: (ANTHROPIC,), faults)
    _raise(faults, variable)
    url = (settings.anthropic_base_url or _ANTHROPIC_URL).rstrip("/")
    upstream = Upstream(ANTHROPIC, Api.ANTHROPIC, url, CONNECT_TIMEOUT_S, settings.model_timeout_s)
    return Catalogue(tuple(entries), (upstream,))


def upstream_keys(settings: Settings, environment: Mapping[str, str] | None = None) -> Mapping[str, str | None]:
    """Return the upstreams' keys by their names, None for one that takes no key. The environment is the operator's.

    Only processes that call upstreams need them; the settings hold none but Anthropic's. Raises `CatalogueError` with
    all faults of the models file and of the keys.
    """
    if settings.models_file is None:
        return {ANTHROPIC: held(settings.anthropic_api_key)}
    environment = given_environment() if environment is None else environment
    faults: list[str] = []
    sources = _models_file(settings, settings.models_file, faults).keys
    keys = {source.upstream: _key(source, settings, environment, faults) for source in sources}
    _raise(faults, _MODELS_FILE)
    return keys


def _models_file(settings: Settings, path: Path, faults: list[str]) -> ModelsFile:
    if settings.rates_file is not None:
        raise CatalogueError([(_RATES_FILE, f"{_MODELS_FILE} is set, too, and has the prices: remove {_RATES_FILE}.")])
    place = str(path)
    tables = dict(toml_of(_text(_MODELS_FILE, path), place, faults))
    if faults:
        return ModelsFile(Catalogue((), ()), ())
    if settings.rates and isinstance(tables.get(MODELS), dict):
        tables[MODELS] = _overridden(tables[MODELS], settings.rates, place)
    return parse_models_file(tables, place, faults, silence_timeout_s=settings.model_timeout_s)


def _overridden(models: Mapping[str, Any], overrides: Mapping[str, Mapping[str, Any]], place: str) -> Mapping[str, Any]:
    unknown = [name for name in overrides if name not in models]
    if unknown:
        told = f"{place} has no model {', '.join(unknown)}: add it there, or correct the name."
        raise CatalogueError([(_RATES, told)])
    return {
        name: laid_over(table, overrides[name]) if name in overrides and isinstance(table, dict) else table
        for name, table in models.items()
    }


def _shipped() -> dict[str, Any]:
    text = files("satmeter.config").joinpath("models.toml").read_text(encoding="utf-8")
    return dict(toml_of(text, _SHIPPED, [])[MODELS])


def _former(text: str, place: str, shipped: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Return the tables of a file of the former format, with the limits of the models that are known here."""
    tables = toml_of(text, place, faults)
    if isinstance(tables.get(MODELS), dict) and "input" not in tables[MODELS]:
        faults.append(f"{place}: has tables [{MODELS}.NAME]: name it by {_MODELS_FILE} instead of {_RATES_FILE}.")
        return {}
    limits = ("context_tokens", "max_output_tokens")
    return {
        name: {key: shipped[name][key] for key in limits} | table
        if name in shipped and isinstance(table, dict)
        else table
        for name, table in tables.items()
    }


def _text(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CatalogueError([(variable, f"{path} can't be read: {why}.")]) from None


def _key(source: KeySource, settings: Settings, environment: Mapping[str, str], faults: list[str]) -> str | None:
    if source.env is not None:
        return _key_in_environment(source, source.env, settings, environment, faults)
    if source.file is None or settings.models_file is None:
        return None
    # A relative path is taken from the models file, so that both can be moved together.
    place = settings.models_file.parent / source.file
    try:
        key = secret_in(place)
    except SecretFileError as error:
        faults.append(f"{source.place}, key_file: {place} {error}.")
        return None
    if settings.production and is_exposed(place):
        faults.append(f"{source.place}, key_file: {place} {EXPOSED}.")
    return key


def _key_in_environment(
    source: KeySource, name: str, settings: Settings, environment: Mapping[str, str], faults: list[str]
) -> str:
    found = read_secret_files(environment, (name,))
    problems = [*found.problems, *(found.exposed if settings.production else ())]
    faults += [f"{source.place}, key_env: {problem.variable}: {problem.message}" for problem in problems]
    key = found.values.get(name) or environment.get(name, "").strip()
    if not key and not problems:
        told = f"{name} is not set here: set it, or {name}{IN_A_FILE}, to the key of this upstream"
        faults.append(f"{source.place}, key_env: {told}.")
    return key


def _raise(faults: Sequence[str], variable: str) -> None:
    if faults:
        raise CatalogueError([(variable, text) for text in faults])
