"""Checks of the operator's own store: it must answer and be fit to keep money. They change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from ...actors.adapters.redis.client import connect
from ...actors.adapters.redis.cluster_client import ClusterRedis
from ...actors.adapters.redis.durability import Loss, store_losses
from ...actors.adapters.redis.format import NewerStoreError, check_format
from ...actors.adapters.redis.sentinel import SentinelPool
from ...actors.ports import TransientError
from ...config.problem import Problem
from ...config.settings import Settings
from ..store.binary import VERSION_MIN
from .transport_checks import plain_store

_LOSES: Final = "which could lose payments"
_LOSSES: Final[Mapping[Loss, str]] = {
    Loss.NO_FILE: f"The store keeps no append-only file, {_LOSES}: set `appendonly yes` in it",
    Loss.EVERYSEC: "The store writes to its disk once a second, and loses up to that with the machine: set "
    "`appendfsync always` in it",
    Loss.NO: f"The store leaves it to the system when to write to its disk, {_LOSES}: set `appendfsync always` in it",
    Loss.REWRITE: f"The store does not wait for its disk while it rewrites its file, {_LOSES}: set "
    "`no-appendfsync-on-rewrite no` in it",
    Loss.UNKNOWN: "The store does not say when it writes to its disk: let its user run `CONFIG GET` and `INFO`",
}
_MIN_REPLICAS: Final = "min-replicas-to-write"


async def store_problems(settings: Settings) -> list[Problem]:
    """Return the problems of the operator's own store, if one is set: unreachable, too old, too new, losing writes.

    Losses that production refuses are only warnings in development, see `store_warnings`.
    """
    if settings.redis_url is None:
        return []
    client = connect(settings.redis_url)
    try:
        if isinstance(client, ClusterRedis):
            messages = await _cluster(client, settings)
        elif isinstance(client.connection_pool, SentinelPool):
            messages = await _watched(client, client.connection_pool, settings)
        else:
            messages = _unfit(await client.info(), production=settings.production)
        if not messages:
            await check_format(client)
            messages = [] if not settings.production else await _losses(client, settings)
    except NewerStoreError as error:
        messages = [str(error)]
    except (RedisError, OSError, TransientError) as error:
        messages = [_unanswered(error, settings.redis_url)]
    finally:
        await client.aclose()
    return [Problem("REDIS_URL", message) for message in messages]


def _unanswered(error: Exception, url: str) -> str:
    """Return why the store does not answer, with the remedy. The library's texts hold no secret of the address."""
    text = " ".join(str(part) for part in (error, error.__cause__, error.__context__) if part is not None)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            "The store's certificate is not trusted, or of another host: name its CA (?ssl_ca_certs=FILE) and its host."
        )
    if "CERTIFICATE_REQUIRED" in text.upper().replace(" ", "_"):
        return "The store wants a certificate of this server: add ?ssl_certfile=FILE&ssl_keyfile=FILE to the address."
    # A socket may be missing or closed to this user, too.
    if "ssl_" in url and any(word in text for word in ("No such file", "Permission denied", "PEM", "X509")):
        return "A file of the address (?ssl_ca_certs and the like) can't be read, or has no certificate: mend its path."
    if isinstance(error, AuthenticationError) or "NOAUTH" in text or "WRONGPASS" in text:
        return "The store does not accept its user or password: mend them in the address."
    if isinstance(error, NoPermissionError) or "NOPERM" in text:
        return f"The store's user lacks a right ({text}): give it those of deploy/store-user.acl."
    return f"The store does not answer ({type(error).__name__}): start it, or mend the address.{_of_tls(url)}"


def _of_tls(url: str) -> str:
    """Return what else may be wrong with the address of a store that hangs up without a word."""
    if not url.partition("+")[0].startswith("rediss"):
        return " If it speaks TLS, write rediss://."
    # In TLS 1.3 a store refuses a client after the client's handshake. Its reason may be lost with the connection.
    return "" if "ssl_certfile" in url else " If it wants a certificate of this server, add ?ssl_certfile=FILE."


async def store_warnings(settings: Settings) -> list[Problem]:
    """Return warnings of losses by the operator's own store that are accepted: in development, or by the settings."""
    if settings.redis_url is None:
        return []
    client = connect(settings.redis_url)
    try:
        losses = await store_losses(client)
        messages = [_told(address, loss, _refused_by_production(loss, settings)) for address, loss in losses.items()]
    except TransientError:
        return []  # `store_problems` reports it.
    finally:
        await client.aclose()
    return [Problem("REDIS_URL", message) for message in messages]


async def _losses(client: Redis, settings: Settings) -> list[str]:
    """Return the losses that production refuses, server by server. Raises `TransientError`."""
    found = await store_losses(client)
    return [
        _told(address, loss, "" if loss is Loss.NO_FILE else f", or allow it by SATMETER_ALLOW_STORE_LOSS={loss.value}")
        for address, loss in found.items()
        if loss.value not in settings.allow_store_loss
    ]


def _refused_by_production(loss: Loss, settings: Settings) -> str:
    if settings.production or loss.value in settings.allow_store_loss:
        return ""
    unless = "" if loss is Loss.NO_FILE else f" unless SATMETER_ALLOW_STORE_LOSS={loss.value} allows it"
    return f". Production refuses such a store{unless}"


def _told(address: str, loss: Loss, what_then: str) -> str:
    where = f"Node {address} of the cluster: " if address else ""
    return f"{where}{_LOSSES[loss]}{what_then}."


def unfit_store(info: Mapping[str, Any], *, production: bool) -> list[Problem]:
    """Return the problems that a single server's answer to INFO shows."""
    return [Problem("REDIS_URL", message) for message in _unfit(info, production=production)]


async def _cluster(client: ClusterRedis, settings: Settings) -> list[str]:
    try:
        primaries = await client.primaries()
    except (RedisError, OSError) as error:
        return [f"The cluster does not answer as a whole: start its nodes, or mend their addresses. ({error})"]
    found = _plain(settings, [address.host for address in primaries])
    for address, node in primaries.items() if not found else ():
        try:
            messages = await _replicated(node, production=settings.production)
        except (RedisError, OSError) as error:
            messages = [f"It does not answer ({type(error).__name__}): start it, or mend the address it announces."]
        found += [f"Node {address} of the cluster: {message}" for message in messages]
    return found


async def _watched(client: Redis, pool: SentinelPool, settings: Settings) -> list[str]:
    named, reasons = [], []
    for sentinel in pool.sentinel_manager.sentinels:
        try:
            named.append(await sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", pool.service_name))
        except (RedisError, OSError) as error:
            reasons.append(str(error))
    if not named:
        return [f"None of the sentinels answers: start them, or mend their addresses. ({'; '.join(reasons)})"]
    if not any(named):
        return [f"The sentinels watch no master {pool.service_name!r}: mend the name behind their addresses."]
    if plain := _plain(settings, [_text(place[0]) for place in named if place]):
        return plain
    try:
        return await _replicated(client, production=settings.production)
    except (RedisError, OSError) as error:
        hint = "start it, or have the sentinels name an address that is reachable from here."
        return [f"The primary that the sentinels name does not answer: {hint} ({error})"]


def _plain(settings: Settings, named: Sequence[str]) -> list[str]:
    """Return why production can't send the password to the servers that a sentinel or node names."""
    if not settings.production or settings.redis_url is None:
        return []
    message = plain_store(settings.redis_url, settings.plain_http_allow, named)
    return [] if message is None else [f"It names servers beyond this machine. {message}"]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def _replicated(client: Redis, *, production: bool) -> list[str]:
    """Return the problems of a primary with replicas: one that takes over lacks the writes that never reached it."""
    info = await client.info()
    found = _unfit(info, production=production, cluster=bool(info.get("cluster_enabled")))
    if not production or not info.get("connected_slaves"):
        return found
    try:
        least = (await client.config_get(_MIN_REPLICAS)).get(_MIN_REPLICAS)
    except ResponseError:
        return found  # Hosted stores often refuse CONFIG.
    if least == "0":
        found.append(f"A failover could lose acknowledged payments: set `{_MIN_REPLICAS} 1` in it.")
    return found


def _unfit(info: Mapping[str, Any], *, production: bool, cluster: bool = False) -> list[str]:
    if "sentinel_masters" in info:
        return ["A sentinel answers, not a store: write redis+sentinel://host:26379/ and the master's name."]
    found = []
    # Valkey reports the Redis version that it is compatible with under this name, which is what counts here.
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < VERSION_MIN:
        found.append(f"The store is version {version}: use Redis 7.0 or newer, or Valkey.")
    if info.get("cluster_enabled") and not cluster:
        found.append("The store is a node of a cluster: write redis+cluster:// instead of redis://.")
    if info["role"] != "master":
        found.append("The store is a replica and takes no writes: name its primary.")
    if production and not info.get("aof_enabled", True):
        found.append(f"The store keeps no append-only file, {_LOSES}: set `appendonly yes` in it.")
    if production and info.get("aof_last_write_status", "ok") != "ok":
        found.append(f"The store failed to write its append-only file, {_LOSES}: look at its log, and its disk.")
    if production and info.get("maxmemory") and info.get("maxmemory_policy") != "noeviction":
        found.append(f"The store drops keys when it is full, {_LOSES}: set `maxmemory-policy noeviction` in it.")
    return found
