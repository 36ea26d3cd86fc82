"""`satmeter ask`: what it says while nothing comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import httpx
import pytest

from satmeter.scripts.ask.ask import Announcing
from satmeter.scripts.ask.wallet import LNBITS_KEY, LNBITS_URL, lnbits_of_environment
from tests.helpers.served import free_port


def _asked(transport: Announcing, url: str) -> None:
    with httpx.Client(transport=transport) as client, contextlib.suppress(httpx.HTTPError):
        client.get(url)


def test_the_first_refusal_is_said_at_once_and_the_others_are_not() -> None:
    said: list[str] = []
    transport, url = Announcing(said.append), f"http://127.0.0.1:{free_port()}"
    for _ in range(3):
        _asked(transport, f"{url}/pricing")
    assert said == [
        f"{url} can't be reached: is it running, and is this its address? Trying again for a while (Ctrl-C ends it) ..."
    ]


@pytest.mark.parametrize(("status", "told"), [(200, False), (402, False), (404, False), (429, True), (503, True)])
def test_a_server_that_has_to_be_asked_again_is_said(status: int, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    answer: Callable[..., httpx.Response] = lambda _self, _request: httpx.Response(status)  # noqa: E731
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    said: list[str] = []
    _asked(Announcing(said.append), "http://127.0.0.1:1/ask")
    assert said == ([f"http://127.0.0.1:1 answers with status {status}. Trying again for a while (Ctrl-C ends it) ..."]
                    if told else [])  # fmt: skip


def test_the_wallet_s_key_is_never_sent_by_plain_http_beyond_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LNBITS_URL, "http://lnbits.example")
    monkeypatch.setenv(LNBITS_KEY, "key")
    with pytest.raises(ValueError, match="in the clear"):
        lnbits_of_environment()
    monkeypatch.setenv("SATMETER_PLAIN_HTTP_ALLOW", "other.example, lnbits.example")
    assert lnbits_of_environment() == ("http://lnbits.example", "key")
