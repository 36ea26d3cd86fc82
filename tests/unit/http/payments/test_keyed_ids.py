"""Ids by Idempotency-Keys while the root key is changed, when the actor of the old id can't be seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from starlette.requests import Request

from satmeter.actors.domain.errors import Code, Refusal, RefusedError
from satmeter.config.root_key import Keys
from satmeter.config.settings import Settings
from satmeter.http.payments.keyed_ids import KeyedIds
from satmeter.http.request.client_address import ClientAddresses
from satmeter.http.state import AppState

OLD = Keys(b"old", b"", b"", b"", b"", b"", "old")


@dataclass
class Playing:
    """State and router in one, which answers every question with this."""

    answer: Refusal | None
    previous_keys: Keys | None = OLD
    id_key: bytes = b"new"
    settings: Settings = field(default_factory=Settings)
    asked: list[str] = field(default_factory=list)

    @property
    def router(self) -> Playing:
        return self

    async def call(self, actor_id: str, _: Any) -> None:
        self.asked.append(actor_id)
        if self.answer is not None:
            raise RefusedError(self.answer)


def keyed(state: Playing) -> tuple[KeyedIds, Request]:
    request = Request({"type": "http", "headers": [], "client": ("198.51.100.7", 5)})
    return KeyedIds(cast(AppState, state), ClientAddresses((), state.id_key)), request


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.OVERLOADED])
async def test_no_second_one_is_made_beside_an_actor_that_can_not_be_seen(code: Code) -> None:
    finder, request = keyed(Playing(Refusal(code, "Not now.")))
    for finding in (finder.job(request, "key"), finder.session(request, "key", "/sessions")):
        with pytest.raises(RefusedError) as caught:
            await finding
        assert caught.value.refusal.code is code


@pytest.mark.parametrize(
    ("answer", "former"),
    [(None, True), (Refusal(Code.INVALID_CREDENTIAL, "Foreign."), True), (Refusal(Code.NOT_FOUND, "None."), False)],
)
async def test_an_actor_that_exists_under_the_old_id_is_taken(answer: Refusal | None, former: bool) -> None:
    state = Playing(answer)
    finder, request = keyed(state)
    for found in (await finder.job(request, "key"), await finder.session(request, "key", "/sessions")):
        assert found.of_previous_key is former
        assert (found.actor_id in state.asked) is former


async def test_without_a_change_or_without_a_key_nothing_is_asked() -> None:
    changing, still = Playing(None), Playing(None, previous_keys=None)
    for state, key in ((changing, None), (still, "key"), (still, None)):
        finder, request = keyed(state)
        assert not (await finder.job(request, key)).of_previous_key
        assert not (await finder.session(request, key, "/sessions")).of_previous_key
    assert changing.asked == still.asked == []
