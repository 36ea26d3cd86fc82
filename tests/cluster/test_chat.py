"""OpenAI's SDK against a real server whose model is a Messages API on a socket."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.cluster.sessions import Client, check_ledger, session
from tests.helpers.patience import PROGRAM_S
from tests.helpers.readme import snippet
from tests.helpers.served import MessagesApi, Served, patiently

if TYPE_CHECKING:
    from openai import OpenAI

HEADING = "With OpenAI's SDK"
MODEL = "claude-haiku-5-5"


def key_of(client: Client) -> str:
    return client.http.headers["Authorization"].removeprefix("Bearer ")


def sdk(server: Served, client: Client) -> OpenAI:
    from openai import OpenAI

    return OpenAI(base_url=f"{server.url}/v1", api_key=key_of(client), max_retries=0)


def said(words: str, **more: Any) -> Any:
    return {"model": MODEL, "messages": [{"role": "user", "content": words}], "max_tokens": 200, **more}


def test_the_lines_of_the_readme_get_an_answer(server: Served, tmp_path: Path) -> None:
    with session(server) as client:
        script = snippet(HEADING, "sh") + f'"{sys.executable}" answer.py\n'
        (tmp_path / "answer.py").write_text(snippet(HEADING, "python"))
        run = subprocess.run(
            ["bash", "-e", "-c", script.replace("http://127.0.0.1:8402", server.url)],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "MACAROON": key_of(client)},
            capture_output=True,
            text=True,
            check=False,
            timeout=PROGRAM_S,
        )
        assert run.returncode == 0, run.stderr
        assert "Name three uses of a sextant." in run.stdout
        assert client.settled()["spentMsat"] > 0


def test_many_at_once_pay_each_for_its_own(server: Served) -> None:
    with session(server, 5_000) as client, sdk(server, client) as openai:

        def ask(number: int) -> int:
            raw = openai.chat.completions.with_raw_response.create(**said(f"request number {number}"))
            assert f"request number {number}" in raw.parse().choices[0].message.content
            return int(raw.headers["satmeter-debited-msat"])

        with ThreadPoolExecutor(16) as pool:
            debits = list(pool.map(ask, range(40)))
        assert sum(debits) == client.settled()["spentMsat"]
        check_ledger(client)


def test_who_leaves_a_stream_stops_the_model_and_pays_for_what_there_was(server: Served, model: MessagesApi) -> None:
    with session(server) as client, sdk(server, client) as openai:
        cut_before = model.streams_cut
        model.hold_stream(after_events=6)
        try:
            stream = openai.chat.completions.create(**said("tell me a long story", stream=True))
            assert [next(stream).choices[0].delta.content for _ in range(2)][1]
            stream.close()
            patiently(lambda: model.streams_cut > cut_before, "the model went on")
        finally:
            model.let_go()
        shown = client.settled()
        assert 0 < shown["spentMsat"] < shown["depositedMsat"]
        check_ledger(client)


def test_a_model_that_fails_costs_nothing_before_its_answer_and_in_it_what_was_given(
    server: Served, model: MessagesApi
) -> None:
    from openai import APIError, InternalServerError

    with session(server) as client, sdk(server, client) as openai:
        with pytest.raises(InternalServerError):
            openai.chat.completions.create(**said("please [break] now"))
        assert client.settled()["spentMsat"] == 0
        # An answer whose failure comes in one piece with its beginning was not given, and is tried again.
        model.hold_stream(after_events=4)
        try:
            stream = openai.chat.completions.create(**said("please [break] now", stream=True))
            assert [next(stream).choices[0].delta.content for _ in range(2)][1]
        finally:
            model.let_go()
        with pytest.raises(APIError) as caught:
            list(stream)
        assert caught.value.code == "model_failed"
        assert client.settled()["spentMsat"] > 0
        check_ledger(client)
