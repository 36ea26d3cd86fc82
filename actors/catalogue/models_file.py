"""Models file: upstreams, and the models that they serve, with names, prices and limits."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ..domain.llm.catalogue import Api, Catalogue, ModelEntry, Upstream, shared_names
from ..domain.pricing import MissingUsage
from .prices import PRICE_KEYS, TOKENS_MAX, price_of
from .tables import Table, is_name

UPSTREAMS: Final = "upstreams"
MODELS: Final = "models"
CONNECT_TIMEOUT_S: Final = 5.0
_UPSTREAM_KEYS: Final = frozenset(
    {"name", "api", "base_url", "key_env", "key_file", "connect_timeout_s", "silence_timeout_s"}
)
_LIMITS: Final = ("context_tokens", "max_output_tokens")
# Of a model whose upstreams are known without being named.
PLAIN_MODEL_KEYS: Final = PRICE_KEYS | {"aliases", *_LIMITS}
_MODEL_KEYS: Final = PLAIN_MODEL_KEYS | {"upstream", "model"}
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class KeySource(msgspec.Struct, frozen=True):
    """Place of an upstream's key: a variable of the environment, or a file beside the models file; or neither."""

    upstream: str
    place: str
    env: str | None = None
    file: str | None = None


class ModelsFile(msgspec.Struct, frozen=True):
    """Models file as it was read, with the places of the upstreams' keys instead of the keys."""

    catalogue: Catalogue
    keys: tuple[KeySource, ...]


def toml_of(text: str, place: str, faults: list[str]) -> Mapping[str, Any]:
    """Return the tables of a TOML text, in which numbers keep all their digits."""
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except ValueError as error:
        faults.append(f"{place}: is not TOML: {error}.")
        return {}


def parse_models_file(
    tables: Mapping[str, Any], place: str, faults: list[str], *, silence_timeout_s: float
) -> ModelsFile:
    """Read a models file's tables, found at this path. `faults` gets a sentence for each fault.

    `silence_timeout_s` is that of an upstream that names none.
    """
    whole = Table(place, tables, faults)
    for key, value in tables.items():
        if key not in (UPSTREAMS, MODELS):
            hint = f"a model is a table [{MODELS}.{key}]" if isinstance(value, dict) else "there is no such key"
            former = "; a file of the former format is named by SATMETER_RATES_FILE" if isinstance(value, dict) else ""
            faults.append(f"{place}, {key}: {hint}{former}.")
    found = [_upstream(table, silence_timeout_s) for table in whole.tables(UPSTREAMS)]
    read = [upstream for upstream in found if upstream is not None]
    names = [upstream.name for upstream, _, _ in read]
    twice = dict.fromkeys(name for name in names if names.count(name) > 1)
    faults += [f"{place}, [[{UPSTREAMS}]]: two have the name {name}: rename one." for name in twice]
    models = whole.table(MODELS)
    if models is None or not models.usable or not models.found:
        faults.append(f"{place}: has no models: add a table [{MODELS}.NAME] for each.")
        return ModelsFile(Catalogue((), ()), ())
    apis = {upstream.name: api for upstream, api, _ in read}
    entries = entries_of(models, _MODEL_KEYS, lambda table: _served_by(table, apis), faults, MissingUsage.BOUND)
    # One that no model names has nothing to be asked for, not even whether it is there.
    used = {name for entry in entries for name in entry.upstreams}
    kept = [(upstream, source) for upstream, _, source in read if upstream.name in used]
    return ModelsFile(
        Catalogue(tuple(entries), tuple(upstream for upstream, _ in kept)), tuple(source for _, source in kept)
    )


def entries_of(
    models: Table,
    known: Collection[str],
    served_by: Callable[[Table], tuple[str, ...]],
    faults: list[str],
    missing_usage: MissingUsage | None = None,
) -> list[ModelEntry]:
    """Return the models of a table of tables. `served_by` returns the upstreams of a model by its table.

    `missing_usage` is the rule of a model that names none.
    """
    entries = []
    for name in models.found:
        table = models.table(name)
        assert table is not None
        if not is_name(name):
            faults.append(f"{table.place}: can't be the name of a model: write letters, digits and signs, no spaces.")
        table.only(known)
        entries.append(_entry(name, table, served_by(table), missing_usage))
    faults += [
        f"{models.place}, aliases: {name} stands for two models, or twice for one: keep one of them."
        for name in shared_names(entries)
    ]
    return entries


def _entry(name: str, table: Table, upstreams: tuple[str, ...], missing_usage: MissingUsage | None) -> ModelEntry:
    context, longest = (table.whole(key, least=1, most=TOKENS_MAX) for key in _LIMITS)
    if context is not None and longest is not None and longest > context:
        table.fault("max_output_tokens", "is more than context_tokens: an answer is part of the context")
    return ModelEntry(
        name=name,
        upstreams=upstreams,
        upstream_model=table.name("model") or name,
        price=price_of(name, table, missing_usage),
        aliases=table.names("aliases"),
        context_tokens=context,
        max_output_tokens=longest,
    )


def _served_by(table: Table, apis: Mapping[str, Api | None]) -> tuple[str, ...]:
    value = table.get("upstream")
    names = [value] if isinstance(value, str) else value
    known = ", ".join(apis) or f"none; add one as [[{UPSTREAMS}]]"
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        told = "is missing" if value is None else "must be a name, or a list of names that are tried in this order"
        table.fault("upstream", f"{told}: set it to the name of an upstream of this file ({known})")
        return ()
    for name in names:
        if name not in apis:
            table.fault("upstream", f"there is no upstream {name} in this file ({known})")
        elif names.count(name) > 1:
            table.fault("upstream", f"has {name} twice: remove one")
            break
    if len({apis.get(name) for name in names} - {None}) > 1:
        # A call's body is written once, in the API of all that it may go to.
        table.fault("upstream", "has upstreams of two APIs: give the model two names, one for each API")
    return tuple(names)


def _upstream(table: Table, silence_timeout_s: float) -> tuple[Upstream, Api | None, KeySource] | None:
    """Return an upstream, its API if that could be read, and the place of its key; None without a name."""
    table.only(_UPSTREAM_KEYS)
    name, api, url = table.name("name"), table.choice("api", Api), table.text("base_url")
    if name is None and not table.has("name"):
        table.fault("name", "is missing: set a name, by which models name this upstream")
    if url is None and not table.has("base_url"):
        table.fault("base_url", "is missing: set the server's address")
    source = KeySource(name or "", table.place, table.text("key_env"), table.text("key_file"))
    if source.env is not None and source.file is not None:
        table.fault("key_env", "stands beside key_file: keep one of them")
    if source.env is not None and not _VARIABLE.fullmatch(source.env):
        # It may be the key itself, so that it is not shown.
        table.fault("key_env", "must be the name of an environment variable that holds the key, not the key itself")
    if url is not None and api is not None:
        _check_url(table, url, api)
    connect_s = table.seconds("connect_timeout_s", CONNECT_TIMEOUT_S)
    silence_s = table.seconds("silence_timeout_s", silence_timeout_s)
    if not table.usable or name is None:
        return None
    return Upstream(name, api or Api.ANTHROPIC, (url or "").rstrip("/"), connect_s, silence_s), api, source


def _check_url(table: Table, url: str, api: Api) -> None:
    try:
        split = urlsplit(url)
        usable = split.scheme in ("http", "https") and bool(split.hostname) and split.port != 0
    except ValueError:
        usable, split = False, urlsplit("")
    if not usable:
        table.fault("base_url", "is not an address: it must begin with http:// or https:// and name a host")
    elif split.username is not None or split.password is not None or split.query or split.fragment:
        # An address is logged, so that it must not hold a secret; it is not shown here for the same reason.
        table.fault("base_url", "must have no user, password, query or fragment: set the key by key_env or key_file")
    elif api is Api.ANTHROPIC and split.path.rstrip("/").endswith("/v1"):
        table.fault("base_url", "must end before /v1, which is added to it")
