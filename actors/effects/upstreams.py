"""Routing of model calls to upstreams: each model's in their order, before the first byte.

Another upstream is asked only after one that certainly did nothing. A call that may be under way, or may be billed, is
not made a second time.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import NamedTuple, TypeVar

import structlog
from msgspec.structs import replace

from ..domain.llm.answers import Served, StreamPart
from ..domain.llm.catalogue import Catalogue
from ..domain.llm.relays import Give, RelayEnd, RelayPart
from ..domain.llm.reported_usage import served_by
from ..port_errors import LeftError, did_nothing, told
from ..ports import (
    Completion,
    Evaluation,
    HeldBackError,
    ModelError,
    PortError,
    Provider,
)
from .usage_watch import UsageWatch

Counted = Callable[[str, PortError | None], None]
"""Takes note of a call to an upstream, and of its error if it failed."""
T = TypeVar("T")
NamedT = TypeVar("NamedT", Completion, Evaluation)
_log = structlog.get_logger(__name__)


class _Route(NamedTuple):
    """The providers of a model, by the names of their upstreams, and the model's name there."""

    providers: tuple[tuple[str, Provider], ...]
    model: str


class Upstreams:
    """Implementation of `ports.Model` over providers, which have the names of the catalogue's upstreams."""

    def __init__(
        self,
        catalogue: Catalogue,
        providers: Mapping[str, Provider],
        eval_model: str,
        clock: Callable[[], float] = time.monotonic,
        counted: Counted | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._eval_model = eval_model
        self._routes: dict[str, _Route] = {}
        self._watch = UsageWatch(clock)
        self._counted = counted or _not_counted

    def prepare(self) -> object:
        """Prepare all providers."""
        return [provider.prepare() for provider in self._providers.values()]

    async def evaluate(self, request: str) -> Evaluation:
        """See `Model`."""
        model = self._route(self._eval_model).model
        judged, upstream = await self._first(self._eval_model, lambda at: at.evaluate(request, model=model))
        self._note(self._eval_model, upstream, judged)
        return _named(judged, self._eval_model, upstream)

    async def complete(self, request: str, *, model: str, max_tokens: int) -> Completion:
        """See `Model`."""
        name = self._route(model).model
        done, upstream = await self._first(model, lambda at: at.complete(request, model=name, max_tokens=max_tokens))
        self._note(model, upstream, done)
        return _named(done, model, upstream)

    async def stream(self, request: str, *, model: str, max_tokens: int) -> AsyncGenerator[StreamPart, None]:
        """See `Model`."""
        name = self._route(model).model
        parts = self._parts(model, lambda at: at.stream(request, model=name, max_tokens=max_tokens))
        upstream = None
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Served):
                    upstream = part.upstream
                yield _named(part, model, upstream) if isinstance(part, Completion) else part

    def relay(
        self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool, stream: bool, give: Give | None = None
    ) -> AsyncGenerator[RelayPart, None]:
        """See `Model`."""
        name = self._route(model).model
        return self._parts(model, partial(_relay_at, body, headers, name, beta, stream, give))

    async def count_tokens(self, body: bytes, headers: Mapping[str, str], *, model: str, beta: bool) -> RelayEnd:
        """See `Model`."""
        counted, _ = await self._first(model, lambda at: at.count_tokens(body, headers, beta=beta))
        return counted

    async def prompt_tokens(self, request: str, *, model: str | None = None, max_tokens: int = 0) -> int:
        """See `Model`."""
        asked = self._eval_model if model is None else model
        name, tokens = self._route(asked).model, None if model is None else max_tokens
        counted, _ = await self._first(asked, lambda at: at.prompt_tokens(request, model=name, max_tokens=tokens))
        return counted

    async def close(self) -> None:
        """End connections."""
        for provider in self._providers.values():
            await provider.close()

    def _route(self, model: str) -> _Route:
        """Return the way to a model. A quote may name one that has left the catalogue: the first upstream is asked."""
        route = self._routes.get(model)
        if route is None:
            entry = self._catalogue.find(model)
            names = next(iter(self._providers)) if entry is None else entry.upstreams
            names = (names,) if isinstance(names, str) else names
            upstream_model = model if entry is None else entry.upstream_model
            route = _Route(tuple((name, self._providers[name]) for name in names), upstream_model)
            self._routes[model] = route
        return route

    def _note(self, model: str, upstream: str, part: object) -> None:
        entry = self._catalogue.find(model)
        self._watch.note(model, upstream, part, None if entry is None else entry.missing_usage)

    async def _first(self, model: str, call: Callable[[Provider], Awaitable[T]]) -> tuple[T, str]:
        """Return the result of the first upstream that takes the call, and its name. Raises `PortError`."""
        failures: list[PortError] = []
        for upstream, provider in self._route(model).providers:
            _tell(model, upstream, failures)
            try:
                found = await call(provider)
            except PortError as error:
                error.upstream = upstream
                self._counted(upstream, error)
                failures.append(error)
                if not _is_for_another(error):
                    break
            else:
                self._counted(upstream, None)
                return found, upstream
        raise _worth_telling(failures)

    async def _parts(
        self, model: str, call: Callable[[Provider], AsyncGenerator[T, None]]
    ) -> AsyncGenerator[T | Served, None]:
        """Yield the parts of the first upstream that gives one. Raises `PortError`."""
        failures: list[PortError] = []
        for upstream, provider in self._route(model).providers:
            _tell(model, upstream, failures)
            begun = False
            try:
                parts = call(provider)
                try:
                    async for part in parts:
                        if not begun:
                            begun = True
                            self._counted(upstream, None)
                            yield Served(upstream)
                        self._note(model, upstream, part)
                        yield part
                finally:
                    await parts.aclose()
                return
            except PortError as error:
                error.upstream = upstream
                self._counted(upstream, error)
                failures.append(error)
                if begun or not _is_for_another(error):
                    break
        raise _worth_telling(failures)


def _not_counted(upstream: str, error: PortError | None) -> None:
    pass


def _relay_at(
    body: bytes, headers: Mapping[str, str], model: str, beta: bool, stream: bool, give: Give | None, at: Provider
) -> AsyncGenerator[RelayPart, None]:
    return at.relay(body, headers, model=model, beta=beta, stream=stream, give=give)


def _is_for_another(error: PortError) -> bool:
    """Return whether the upstream certainly did not work on the call, so that another may."""
    return did_nothing(error) and not isinstance(error, LeftError)


def _tell(model: str, upstream: str, failures: list[PortError]) -> None:
    if failures and not isinstance(failures[-1], HeldBackError):
        _log.warning("upstream_passed_over", next_upstream=upstream, model=model, **told(failures[-1]))


def _worth_telling(failures: list[PortError]) -> PortError:
    """Return the failure that says most: the one that was not passed over, else the one that passes soonest."""
    last = failures[-1]
    if not _is_for_another(last):
        return last
    waits = [error for error in failures if isinstance(error, ModelError) and error.retry_after_s is not None]
    return min(waits, key=lambda error: error.retry_after_s or 0) if waits else last


def _named(found: NamedT, model: str, upstream: str | None) -> NamedT:
    """Return the answer under the model's name here, by which it has its price, and with the upstream that gave it."""
    return replace(found, model=model, reported=served_by(upstream, found.reported))
