"""Store of the state of Ray's head, by Ray's variables and two of ours: its user must not reach what is ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from ...actors.adapters.redis.client import connect
from ...config.problem import Problem
from ...config.secret_files import read_secret_files
from ...config.secret_names import RAY_SECRETS
from ...config.settings import Settings
from ...config.store_url import StoreKind, parse_store_url
from .transport_checks import plain_store

RAY_STORE: Final = "RAY_REDIS_ADDRESS"
RAY_STORE_USER: Final = "RAY_REDIS_USERNAME"
# Ray's names of a certificate's files, and the options of a store's address that mean the same.
_FILES: Final = (
    ("RAY_REDIS_CA_CERT", "ssl_ca_certs"),
    ("RAY_REDIS_CLIENT_CERT", "ssl_certfile"),
    ("RAY_REDIS_CLIENT_KEY", "ssl_keyfile"),
)
# Every store of ours has it from its first server on.
_OURS: Final = "satmeter:format"
_PORT: Final = 6379
_TOO_MUCH: Final = (
    "Ray's user reaches the books in this store: make one there by deploy/ray-store-user.acl, and set "
    "RAY_REDIS_USERNAME and RAY_REDIS_PASSWORD to it."
)


class RayStore(msgspec.Struct, frozen=True):
    """The store that keeps the state of Ray's head. `url` has no login."""

    url: str
    user: str
    password: str

    def with_login(self) -> str:
        """Return the address with user and password."""
        if not self.password:
            return self.url
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{rest}"


def ray_store_of(environment: Mapping[str, str]) -> RayStore | None:
    """Return the store of Ray's head; None where Ray keeps its state in memory.

    A file of the password that can't be read counts as none.
    """
    address = environment.get(RAY_STORE, "").strip()
    if not address:
        return None
    # Ray asks the first one of several.
    scheme, _, place = address.partition(",")[0].rpartition("://")
    scheme = scheme or "redis"
    files = [(option, environment[name]) for name, option in _FILES if environment.get(name)]
    query = f"?{urlencode(files)}" if files and scheme == "rediss" else ""
    user, (name,) = environment.get(RAY_STORE_USER, "").strip(), RAY_SECRETS
    password = read_secret_files(environment, RAY_SECRETS).values.get(name) or environment.get(name, "").strip()
    return RayStore(f"{scheme}://{place}{query}", user, password)


async def ray_store_problems(environment: Mapping[str, str], settings: Settings) -> list[Problem]:
    """Return what is wrong with the store of Ray's head, as the environment names it. It changes nothing.

    Raises `RedisError` or `OSError` if the store does not answer.
    """
    store = ray_store_of(environment)
    if store is None:
        return []
    files = read_secret_files(environment, RAY_SECRETS)
    if found := [*files.problems, *(files.exposed if settings.production else ())]:
        return found
    if (message := _unfit_address(store, settings)) is not None:
        return [Problem(RAY_STORE, message)]
    client = connect(store.with_login())
    try:
        ours, answers = _is_ours(store, settings.redis_url), await _answers(client)
    except AuthenticationError:
        return [Problem(RAY_SECRETS[0], "The store does not accept this user or password: mend them.")]
    finally:
        await client.aclose()
    return [Problem(RAY_STORE_USER, _TOO_MUCH)] if any(answers) or (ours and answers) else []


def _unfit_address(store: RayStore, settings: Settings) -> str | None:
    """Return why the password can't be sent to this address."""
    try:
        if parse_store_url(store.url).kind is not StoreKind.SINGLE:
            return "Ray knows no such address: write HOST:PORT, or rediss://HOST:PORT."
        return plain_store(store.url, settings.plain_http_allow) if settings.production else None
    except ValueError as error:
        return str(error)


async def _answers(client: Redis) -> list[bool]:
    """Return whether our key was found, for each command that the user is not refused."""
    found = []
    for ask in (
        lambda: client.exists(_OURS),
        lambda: client.get(_OURS),
        lambda: client.hget(_OURS, "x"),
        lambda: _named(client),
        lambda: client.config_get("maxmemory"),
    ):
        try:
            answer: Any = await ask()
        except NoPermissionError:
            continue
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                continue  # A sentinel knows no keys.
            answer = True
        found.append(bool(answer) and not isinstance(answer, dict))
    return found


async def _named(client: Redis) -> bool:
    """Return whether a key of ours is listed: the names of keys have the ids of jobs, which are credentials."""
    _, names = await client.scan(match="satmeter:*", count=1_000)
    return bool(names)


def _is_ours(store: RayStore, redis_url: str | None) -> bool:
    """Return whether the addresses name one server, as far as their words tell."""
    try:
        return redis_url is not None and bool(set(_places(store.url)) & set(_places(redis_url)))
    except ValueError:
        return False  # Ours can't be read, which is told elsewhere.


def _places(url: str) -> Sequence[tuple[str, int]]:
    store = parse_store_url(url)
    if store.kind is not StoreKind.SINGLE:
        return [(address.host, address.port) for address in store.addresses]
    split = urlsplit(url)
    return [(split.hostname, split.port or _PORT)] if split.hostname else []
