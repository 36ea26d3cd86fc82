"""News of all upstreams, as a front reads them: whether a model can be had from any of those that serve it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..domain.llm.catalogue import Catalogue
from .outage import ASK_AGAIN_S, ModelCache, ModelWord


class UpstreamNews:
    """Availability of models. `own` are those that the server itself works with, by their names in the catalogue.

    Without them nothing is sold. A model's availability is that of its best upstream.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        caches: Mapping[str, ModelCache],
        own: Sequence[str],
        now_ms: Callable[[], int],
    ) -> None:
        self._catalogue = catalogue
        self._caches = caches
        self._own = own
        self._now_ms = now_ms

    async def current(self, longest_s: float = ASK_AGAIN_S, model: str | None = None) -> ModelWord:
        """Return the last known availability of a model, without one that of the server's own. Never raises.

        It is at most `longest_s` old. A wait has the name of the model in the catalogue.
        """
        if model is not None:
            return await self._of(model, longest_s)
        return max([await self._of(name, longest_s) for name in self._own], key=self._lack)

    async def upstreams(self) -> Mapping[str, ModelWord]:
        """Return the last known availability of each upstream by its name. Never raises."""
        return {name: await cache.current() for name, cache in self._caches.items()}

    async def _of(self, model: str, longest_s: float) -> ModelWord:
        entry = self._catalogue.find(model)
        if entry is None:
            return ModelWord()
        found: list[ModelWord] = []
        for upstream in entry.upstreams:
            word = await self._caches[upstream].current(longest_s)
            wait = word.waits.get(entry.upstream_model)
            found.append(ModelWord(word.outage, word.failures, {} if wait is None else {model: wait}))
        return min(found, key=self._lack)

    def _lack(self, word: ModelWord) -> tuple[bool, bool, int]:
        """Return how far a state is from a good one: away, on trial, or for how long it is to be waited for."""
        now_ms = self._now_ms()
        down, closed = word.down(now_ms), word.closed(now_ms)
        waits_ms = [wait.left_ms(now_ms) for wait in word.waits.values()]
        left_ms = 0 if closed is None else closed.left_ms(now_ms)
        return down is not None, closed is not None, max([left_ms, *waits_ms])
