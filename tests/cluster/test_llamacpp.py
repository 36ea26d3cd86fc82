"""A server with a models file over a real llama.cpp server: both SDKs call it through a session that was paid for."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI

from tests.helpers.patience import PATIENCE_S
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import Served, free_port, patiently, served
from tests.llamacpp.server import MODEL, SENTENCE, LlamaCpp

QUESTION = "Name three uses of a sextant."
# The end of the turn is a token, too.
TOKENS = 16
_MODELS = """
[[upstreams]]
name = "chat"
api = "openai"
base_url = "{llama}/v1"

[[upstreams]]
name = "messages"
api = "anthropic"
base_url = "{llama}"

[[upstreams]]
name = "away"
api = "openai"
base_url = "http://127.0.0.1:{closed}/v1"
"""
_MODEL = """
[models.{name}]
upstream = {upstream}
model = "{model}"
aliases = ["{name}-alias"]
input = "1.00"
output = "2.00"
cache_read = "0.10"
cache_write_5m = "1.00"
cache_write_1h = "1.00"
context_tokens = 2048
max_output_tokens = 1024
"""
UPSTREAMS = {"by-chat": '"chat"', "by-messages": '"messages"', "by-failover": '["away", "chat"]'}


@dataclass
class Paid:
    """A session with a balance."""

    server: Served
    session_id: str
    key: str

    def get(self, path: str) -> Any:
        """Return what the server says of the session."""
        headers = {"authorization": f"Bearer {self.key}"}
        return self.server.client.get(f"/sessions/{self.session_id}{path}", headers=headers).raise_for_status().json()

    def charged(self) -> Any:
        """The charge of the last request, by its receipt."""
        requests = [entry for entry in self.get("/ledger?limit=200")["entries"] if entry["kind"] == "debit"]
        return self.get(f"/requests/{requests[-1]['requestId']}/receipt")["receipt"]["charges"][0]


@pytest.fixture(scope="module")
def paid(llama: LlamaCpp) -> Iterator[Paid]:
    """A session of a server over llama.cpp."""
    models = _MODELS.format(llama=llama.url, closed=free_port())
    models += "".join(_MODEL.format(name=name, upstream=at, model=MODEL) for name, at in UPSTREAMS.items())
    own: Any = {"EVAL_MODEL": "by-chat", "WORK_MODEL": "by-chat"}
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as folder:
        file = Path(folder) / "models.toml"
        file.write_text(models)
        with served(Path(folder) / "data", SATMETER_HOSTS="1", SATMETER_MODELS_FILE=str(file), **own) as server:
            opened = server.client.post("/sessions", json={"amountSats": 1_000}).raise_for_status().json()
            paid = Paid(server, opened["sessionId"], opened["macaroon"])
            server.client.post(f"/dev/stub/pay/{opened['depositInvoice']['paymentHash']}").raise_for_status()
            patiently(lambda: paid.get("")["balanceMsat"] > 0, "the deposit arrives")
            yield paid


def ask_messages(paid: Paid, model: str, *, stream: bool) -> str:
    """The answer to Anthropic's SDK."""
    question: Any = {"model": model, "max_tokens": 200, "messages": [{"role": "user", "content": QUESTION}]}
    with Anthropic(base_url=paid.server.url, api_key=paid.key, timeout=PATIENCE_S, max_retries=0) as sdk:
        if stream:
            with sdk.messages.stream(**question) as parts:
                return "".join(parts.text_stream)
        message: Any = sdk.messages.create(**question)
        return str(message.content[0].text)


def ask_chat(paid: Paid, model: str, *, stream: bool) -> str:
    """The answer to OpenAI's SDK, by chat completions."""
    question: Any = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": stream}
    with OpenAI(base_url=f"{paid.server.url}/v1", api_key=paid.key, timeout=PATIENCE_S, max_retries=0) as sdk:
        got: Any = sdk.chat.completions.create(**question)
        if stream:
            return "".join(part.choices[0].delta.content or "" for part in got if part.choices)
        return str(got.choices[0].message.content)


def ask_responses(paid: Paid, model: str, *, stream: bool) -> str:
    """The answer to OpenAI's SDK, by responses."""
    with OpenAI(base_url=f"{paid.server.url}/v1", api_key=paid.key, timeout=PATIENCE_S, max_retries=0) as sdk:
        got: Any = sdk.responses.create(model=model, input=QUESTION, stream=stream)
        return str((list(got)[-1].response if stream else got).output_text)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ask", [ask_messages, ask_chat, ask_responses])
def test_an_sdk_pays_for_the_tokens_that_llamacpp_counted(paid: Paid, llama: LlamaCpp, ask: Any, stream: bool) -> None:
    for name in UPSTREAMS:
        before, generated = paid.get("")["balanceMsat"], llama.generated_tokens()
        assert ask(paid, f"{name}-alias", stream=stream) == SENTENCE
        charge = paid.charged()
        assert (charge["model"], charge["outputTokens"]) == (name, TOKENS)
        assert llama.generated_tokens() - generated == TOKENS
        assert charge["inputTokens"] + charge["cacheReadTokens"] > 0
        assert charge["provider"]["upstream"] == ("messages" if name == "by-messages" else "chat")
        assert charge["provider"]["usage"], "the receipt has the upstream's own figures"
        assert paid.get("")["balanceMsat"] < before


def test_a_model_is_listed_with_its_upstreams(paid: Paid) -> None:
    models = httpx.get(f"{paid.server.url}/pricing", timeout=PATIENCE_S, trust_env=False).json()["models"]
    assert {model["model"]: model["upstreams"] for model in models} == {
        "by-chat": ["chat"],
        "by-messages": ["messages"],
        "by-failover": ["away", "chat"],
    }
