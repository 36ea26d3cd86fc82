"""Parser of `REDIS_URL`: one server, or servers behind Sentinel, or a cluster."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

_FORM: Final = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<credentials>[^/?#@]*)@)?(?P<hosts>[^/?#@]*)(?P<path>/[^?#@]*)?(?:\?(?P<query>[^#@]*))?"
)
_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+)(?::(?P<port>.*))?")
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_PORT_MAX: Final = 65_535
_SCHEMES: Final = (
    "redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, redis+cluster:// or rediss+cluster://"
)


class StoreKind(Enum):
    """The kind of a store: one server, servers behind Sentinel, or a cluster."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


class Address(NamedTuple):
    """The address of a server or a sentinel; an IPv6 address has no brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class StoreUrl(msgspec.Struct, frozen=True):
    """A parsed store URL. `text` is the URL; the rest is empty for a single server, whose URL Redis's client parses.

    `addresses` are sentinels, or nodes of a cluster, not necessarily all. `master` is the primary's name at them.
    """

    kind: StoreKind
    text: str
    addresses: tuple[Address, ...] = ()
    master: str = ""
    _credentials: str = ""
    _sentinel_credentials: tuple[str, str] = ("", "")
    _scheme: str = "redis"
    _path: str = ""
    _query: str = ""

    def server(self, address: Address) -> str:
        """Return the URL of one server of this store."""
        login = f"{self._credentials}@" if self._credentials else ""
        return f"{self._scheme}://{login}{address}{self._path}{self._query}"

    def sentinel(self, address: Address) -> str:
        """Return the URL of one of its sentinels, which have their own credentials, or none."""
        username, password = self._sentinel_credentials
        options = urlencode([pair for pair in (("username", username), ("password", password)) if pair[1]])
        query = "&".join(part for part in (self._query.removeprefix("?"), options) if part)
        return f"{self._scheme}://{address}{f'?{query}' if query else ''}"


def parse_store_url(url: str) -> StoreUrl:
    """Parse a store's URL. Raises `ValueError` with a sentence that says what is missing, without any secret."""
    scheme, _, _ = url.partition("://")
    base, _, kind = scheme.partition("+")
    match kind:
        case "" if base in ("redis", "rediss", "unix"):
            return _single(url)
        case "sentinel" | "cluster" if base in ("redis", "rediss"):
            return _several(url, base, StoreKind(kind))
    raise ValueError(f"Not an address: it must begin with {_SCHEMES}.")


def _single(url: str) -> StoreUrl:
    try:
        split = urlsplit(url)
        _ = split.port
    except ValueError:
        raise ValueError("Its host or port can't be read: write redis://host:6379.") from None
    if split.scheme == "unix" and not split.path:
        raise ValueError("It names no socket: write unix:///path/to/socket.")
    if split.scheme != "unix" and not split.hostname:
        raise ValueError(f"It names no host: write {split.scheme}://host:6379.")
    return StoreUrl(StoreKind.SINGLE, url)


def _several(url: str, scheme: str, kind: StoreKind) -> StoreUrl:
    form = _FORM.fullmatch(url)
    if form is None:
        raise ValueError("It can't be read: write reserved characters of a password as %XX.")
    port = _SENTINEL_PORT if kind is StoreKind.SENTINEL else _PORT
    addresses = tuple(_address(text, port) for text in form["hosts"].split(",") if text)
    path = [unquote(part) for part in (form["path"] or "").split("/") if part]
    sentinels = kind is StoreKind.SENTINEL
    example = f"{scheme}+{kind.value}://host1:{port},host2:{port}{'/mymaster' if sentinels else ''}"
    if not addresses:
        raise ValueError(f"It names no host: write {example}.")
    if sentinels and not path:
        raise ValueError(f"It does not name the master that the sentinels watch: write {example}.")
    master, *database = path if sentinels else ["", *path]
    if database and (len(database) > 1 or not database[0].isdecimal()):
        raise ValueError(f"Its last part must be the number of a database, as in {example}/0.")
    if not sentinels and any(int(number) for number in database):
        raise ValueError("A cluster has database 0 only: leave the number out.")
    options = dict(parse_qsl(form["query"] or ""))
    login = (options.pop("sentinel_username", ""), options.pop("sentinel_password", ""))
    return StoreUrl(
        kind,
        url,
        addresses,
        master,
        form["credentials"] or "",
        login,
        scheme,
        f"/{int(database[0])}" if database else "",
        f"?{urlencode(options)}" if options else "",
    )


def _address(text: str, default_port: int) -> Address:
    form = _HOST.fullmatch(text)
    if form is None:
        raise ValueError(f"One of its hosts can't be read: write host:{default_port}.")
    port = form["port"]
    if port is not None and not (port.isdecimal() and 0 < int(port) <= _PORT_MAX):
        raise ValueError(f"One of its ports is not a number up to {_PORT_MAX}: write host:{default_port}.")
    return Address(form["host"].strip("[]"), default_port if port is None else int(port))
