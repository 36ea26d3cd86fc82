"""Rules of production: stubs, weak secrets, plain connections and lists that let everybody in are refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from itertools import pairwise
from typing import Final
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from ...actors.adapters.lightning_backends import BACKENDS, CHOICE, USUAL, backend_of
from ...actors.catalogue.loading import upstream_keys
from ...actors.catalogue.tables import CatalogueError
from ...config.named_settings import secret_of
from ...config.problem import Problem
from ...config.secret_names import RAY_SECRETS
from ...config.settings import Settings
from ...config.store_url import parse_store_url
from .data_dir import data_dir_problems

_MAKE_KEY: Final = "set 32 random bytes in hex (`openssl rand -hex 32`)"
# Random bytes have 30 different values among 32, and fewer than 16 once in 10^15 keys.
_DIFFERENT_BYTES_MIN: Final = 16
_KEY_BYTES: Final = 32
_OWN: Final = ("MACAROON_ROOT_KEY", "MACAROON_ROOT_KEY_PREVIOUS", "OPERATOR_TOKEN")
# All processes of a Ray cluster inherit the first; others than the server know both.
_OF_RAY: Final = ("RAY_AUTH_TOKEN", *RAY_SECRETS)
_TOKEN_CHARS_MIN: Final = 24
_TOKEN_DIFFERENT_MIN: Final = 8
# Digests of these are what people take for random.
_WORDS: Final = ("", "satmeter", "secret", "password", "test", "key", "macaroon", "root", "changeme", "0", "1")
# A list that holds more than one in this many of all addresses bounds nobody.
_SHARE_MAX: Final = 16
# IPv6 networks in which all of IPv4 is found again, with the place of the IPv4 address.
_HOLDS_IPV4: Final = tuple(
    (IPv6Network(text), prefix)
    for text, prefix in (("::ffff:0:0/96", 96), ("64:ff9b::/96", 96), ("::/96", 96), ("2002::/16", 16))
)


def production_problems(settings: Settings) -> Iterator[Problem]:
    """Yield what production refuses of these settings, without asking other services."""
    yield from _stubs(settings)
    yield from _secrets(settings)
    yield from _everybody("SATMETER_TRUSTED_PROXIES", settings.trusted_proxies, "name the addresses of your proxies")
    yield from _everybody("SATMETER_WEBHOOK_ALLOW", settings.webhook_allow, "name the receivers in your own network")
    if settings.log_level == "debug":
        text = "Logs at this level may hold what clients ask, and their credentials: set info, warning or error."
        yield Problem("SATMETER_LOG_LEVEL", text)
    if settings.ray_address is not None and not _ray_is_closed(os.environ):
        text = (
            "A program that reaches Ray's ports runs code with all keys at hand: set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN on every node, for `ray start` too."
        )
        yield Problem("RAY_AUTH_MODE", text)
    yield from data_dir_problems(settings.data_dir)


def _ray_is_closed(environment: Mapping[str, str]) -> bool:
    """Return whether a cluster that others started asks for a token, or for certificates."""
    return environment.get("RAY_AUTH_MODE", "").lower() == "token" or environment.get("RAY_USE_TLS", "0") == "1"


def _stubs(settings: Settings) -> Iterator[Problem]:
    backend = backend_of(settings)
    if backend.stub:
        at_fault = USUAL.address if settings.lightning is None else CHOICE
        needed = " and ".join(USUAL.needed)
        yield Problem(at_fault, f"Production takes no stub node: set {needed}, or those of another node.")
    elif backend.pays_with is not None and backend.pays_with not in backend.needed and not backend.can_pay(settings):
        yield Problem(backend.pays_with, "Production must be able to pay refunds: set this key of the wallet, too.")
    if not settings.anthropic_api_key and not settings.models_file:
        yield Problem("ANTHROPIC_API_KEY", "Production takes no stub model: set your key, or SATMETER_MODELS_FILE.")
    if not settings.rate_limits:
        yield Problem("SATMETER_RATE_LIMITS", "Only load tests may switch the limits off: remove it in production.")


def _secrets(settings: Settings) -> Iterator[Problem]:
    root = _text(settings.macaroon_root_key)
    if not root:
        yield Problem("MACAROON_ROOT_KEY", f"Production needs a key that outlives this machine: {_MAKE_KEY}.")
    elif _is_weak_key(root):
        yield Problem("MACAROON_ROOT_KEY", f"This key can be guessed, and with it every session be spent: {_MAKE_KEY}.")
    if (previous := _text(settings.macaroon_root_key_previous)) and _is_weak_key(previous):
        text = "This key can be guessed, and with it every session be spent: remove it."
        yield Problem("MACAROON_ROOT_KEY_PREVIOUS", text)
    token = _text(settings.operator_token)
    if not token:
        yield Problem("OPERATOR_TOKEN", "Production needs the operator's token: set one (`openssl rand -hex 32`).")
    elif len(token) < _TOKEN_CHARS_MIN or len(set(token)) < _TOKEN_DIFFERENT_MIN or _is_repeated(token):
        text = (
            f"It can be guessed: set a random one of at least {_TOKEN_CHARS_MIN} characters (`openssl rand -hex 32`)."
        )
        yield Problem("OPERATOR_TOKEN", text)
    yield from _shared(settings)


def _shared(settings: Settings) -> Iterator[Problem]:
    """Yield secrets of this server that are also used for something else, where others know them."""
    used: dict[str, str] = {}
    for variable, secret in (
        *((variable, _text(secret)) for variable, secret in _keys_of_nodes(settings)),
        *_keys_of_models(settings),
        *((variable, os.environ.get(variable, "")) for variable in _OF_RAY),
        ("the password in REDIS_URL", _store_password(settings.redis_url)),
        ("MACAROON_ROOT_KEY", _text(settings.macaroon_root_key)),
        ("MACAROON_ROOT_KEY_PREVIOUS", _text(settings.macaroon_root_key_previous)),
        ("OPERATOR_TOKEN", _text(settings.operator_token)),
    ):
        text = secret.lower()
        # Two equal root keys are a problem of their own.
        twice = variable == "MACAROON_ROOT_KEY_PREVIOUS" and used.get(text) == "MACAROON_ROOT_KEY"
        if text and text in used and variable in _OWN and not twice:
            yield Problem(variable, f"It is the same as {used[text]}: set a secret of its own for each.")
        used.setdefault(text, variable)


def _keys_of_models(settings: Settings) -> Iterator[tuple[str, str]]:
    yield "ANTHROPIC_API_KEY", _text(settings.anthropic_api_key)
    if settings.models_file is None:
        return
    try:
        keys = upstream_keys(settings)
    except CatalogueError:
        return  # It is told elsewhere.
    for upstream, key in keys.items():
        yield f"the key of upstream {upstream}", key or ""


def _store_password(url: str | None) -> str:
    """Return the password in a store's address; empty without one, and for an address that is told of elsewhere."""
    try:
        store = parse_store_url(url or "")
        address = store.server(store.addresses[0]) if store.addresses else store.text
        return unquote(urlsplit(address).password or "")
    except ValueError:
        return ""


def _keys_of_nodes(settings: Settings) -> Iterator[tuple[str, SecretStr]]:
    for backend in BACKENDS.values():
        for variable in backend.variables:
            if (secret := secret_of(settings, variable)) is not None:
                yield variable, secret


def _text(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def _is_weak_key(text: str) -> bool:
    """Return True for a key that nobody drew at random: repeated, counted, typed, or a word's digest."""
    key = bytes.fromhex(text)
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    repeated = _is_repeated(key)
    typed = all(0x20 <= byte < 0x7F for byte in key)
    digest = any(hashlib.sha256(word.encode()).digest() == key for word in _WORDS)
    return len(set(key)) < _DIFFERENT_BYTES_MIN or len(steps) == 1 or repeated or typed or digest


def _is_repeated(text: str | bytes) -> bool:
    """Return True for a text that its beginning, at most half of it, makes when it is repeated."""
    return any(text[length:] == text[:-length] for length in range(1, len(text) // 2 + 1))


def _everybody(variable: str, entries: Sequence[str], remedy: str) -> Iterator[Problem]:
    if _is_everybody(entries):
        text = f"Together its networks are everybody, or a sixteenth of all addresses and more: {remedy}."
        yield Problem(variable, text)


def _is_everybody(entries: Sequence[str]) -> bool:
    """Return True if networks hold more than a sixteenth of all addresses, in however many parts they are written."""
    four: list[IPv4Network] = []
    six: list[IPv6Network] = []
    for entry in entries:
        try:
            network = ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            continue  # Names are one host each; what can't be read is found elsewhere.
        if isinstance(network, IPv4Network):
            four.append(network)
        else:
            six.append(network)
            four += _ipv4_in(network)
    return any(
        sum(network.num_addresses for network in found) > 2**bits // _SHARE_MAX
        for bits, found in ((32, list(collapse_addresses(four))), (128, list(collapse_addresses(six))))
    )


def _ipv4_in(network: IPv6Network) -> Iterator[IPv4Network]:
    for holder, before in _HOLDS_IPV4:
        if network.subnet_of(holder):
            number = (int(network.network_address) >> (128 - before - 32)) & 0xFFFF_FFFF
            yield IPv4Network((number, max(0, min(32, network.prefixlen - before))), strict=False)
