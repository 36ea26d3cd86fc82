"""Snippets for clients of other providers and for wallets do what they say, copied and run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import readme
from tests.helpers.served import Served, patiently, served
from tests.lnbits.lnd import MACAROON, lnd_before
from tests.lnbits.server import Lnbits

# A server of its own starts for some of them, and LNbits may have to be installed.

# What Claude Code does with its environment, as far as a server sees it; the program itself can't be installed here.
CLAUDE = """#!{python}
import os, sys
from anthropic import Anthropic
sdk = Anthropic(base_url=os.environ["ANTHROPIC_BASE_URL"], auth_token=os.environ["ANTHROPIC_AUTH_TOKEN"])
messages = [{{"role": "user", "content": sys.argv[2]}}]
with sdk.beta.messages.stream(model=os.environ["ANTHROPIC_MODEL"], max_tokens=32000, messages=messages) as stream:
    print(stream.get_final_text())
"""


@pytest.fixture(scope="module")
def stubbed() -> Iterator[Served]:
    with (
        tempfile.TemporaryDirectory(prefix="sm-") as folder,
        served(Path(folder) / "data", SATMETER_HOSTS="1") as found,
    ):
        yield found


@pytest.fixture(scope="module")
def macaroon(stubbed: Served) -> str:
    """Macaroon of a session whose deposit was paid."""
    opened = stubbed.client.post("/sessions", json={"amountSats": 10_000}).json()
    stubbed.client.post(f"/dev/stub/pay/{opened['depositInvoice']['paymentHash']}")
    token: str = opened["macaroon"]
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/sessions/{opened['sessionId']}"
    patiently(lambda: stubbed.client.get(path, headers=headers).json()["state"] == "active", "no deposit")
    return token


def test_the_anthropic_sdk_asks_in_five_lines(stubbed: Served, macaroon: str) -> None:
    (snippet,) = readme.snippets("With Anthropic's SDK", "python")
    assert readme.lines_of(snippet) <= 5
    assert "sextant" in readme.run(snippet, "python", stubbed.url, {"MACAROON": macaroon})


def test_claude_code_is_pointed_here_by_its_environment(stubbed: Served, macaroon: str, tmp_path: Path) -> None:
    (snippet,) = readme.snippets("With Claude Code", "sh")
    assert readme.lines_of(snippet) <= 5
    program = tmp_path / "claude"
    program.write_text(CLAUDE.format(python=sys.executable))
    program.chmod(0o755)
    environment = {"MACAROON": macaroon, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert "sextant" in readme.run(snippet, "sh", stubbed.url, environment)


def test_an_l402_wallet_pays_once_from_a_real_lnbits_and_goes_on(lnbits: Lnbits) -> None:
    (snippet,) = readme.snippets("With an L402 wallet", "python")
    assert readme.lines_of(snippet) <= 5
    with (
        tempfile.TemporaryDirectory(prefix="sm-") as folder,
        served(
            Path(folder) / "data",
            SATMETER_HOSTS="1",
            LNBITS_URL=lnbits.url,
            LNBITS_INVOICE_KEY=lnbits.payee.invoice_key,
        ) as server,
        lnd_before(lnbits) as lnd_url,
    ):
        environment = {"LND_URL": lnd_url, "LND_MACAROON": MACAROON}
        printed = readme.run(snippet, "python", server.url, environment)
        assert "sextant" in printed and printed.strip().endswith(" 100")
        # The same wallet goes on with what it has paid for.
        more = """
for _ in range(2):
    again = wallet.post("http://127.0.0.1:8402/ask", '{"request": "And of a quadrant?"}')
    print(again.status, again.paid, again.cached_token, wallet.total_spent())
call = '{"model": "claude-sonnet-5-5", "max_tokens": 500, "messages": [{"role": "user", "content": "Hello"}]}'
for _ in range(2):
    message = wallet.post("http://127.0.0.1:8402/v1/messages", call)
    print(message.status, message.json()["type"], wallet.total_spent())
"""
        printed = readme.run(snippet + more, "python", server.url, environment)
        lines = printed.strip().splitlines()[-4:]
        assert lines[:2] == ["200 False True 100"] * 2
        assert [line.rpartition(" ")[0] for line in lines[2:]] == ["200 message"] * 2
        assert lines[2] == lines[3]
