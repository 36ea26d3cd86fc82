"""nginx with its own defaults between clients and a real server: what is slow arrives, and who leaves is heard of.

By default nginx buffers answers, speaks HTTP/1.0 to the server, and gives up after 60 s without a byte. The server
pings every ten. Both are shortened here by the same factor.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.helpers.cluster.sessions import Client, check_ledger, session
from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import MessagesApi, Served, free_port, patiently, served

if TYPE_CHECKING:
    from anthropic import Anthropic
    from openai import OpenAI

READ_TIMEOUT_S = 3
PING_S = READ_TIMEOUT_S * 10 / 60
SILENT_S = READ_TIMEOUT_S + 1.0
MODEL = "claude-sonnet-5-5"
HELLO: list[Any] = [{"role": "user", "content": "Hello, model"}]
# What was sent: 3 tokens by the stub's count, at 3 USD for a million and 40 % over that; and infrastructure.
PROMPT_MSAT = 9 + 700
CONFIGURATION = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/answers;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {url};
            proxy_read_timeout {timeout_s}s;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def behind(model: MessagesApi) -> Iterator[Served]:
    with (
        tempfile.TemporaryDirectory(prefix="sm-") as directory,
        served(
            Path(directory) / "data",
            SATMETER_HOSTS="1",
            SATMETER_PING_S=str(PING_S),
            ANTHROPIC_API_KEY="test",
            ANTHROPIC_BASE_URL=model.url,
        ) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def nginx(behind: Served) -> Iterator[str]:
    """The address of an nginx before the server."""
    program = shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
    if program is None:
        pytest.skip("needs nginx: install Debian's package `nginx`, as .ci/packages does")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="sm-nginx-") as directory:
        written = Path(directory) / "nginx.conf"
        figures = {"directory": directory, "port": port, "url": behind.url, "timeout_s": READ_TIMEOUT_S}
        written.write_text(CONFIGURATION.format(**figures))
        with (Path(directory) / "log").open("wb") as log:
            process = subprocess.Popen(
                ending_with_us([program, "-p", directory, "-e", "stderr", "-c", str(written)]), stderr=log
            )
            try:
                patiently(lambda: _answers(f"http://127.0.0.1:{port}"), "nginx does not answer")
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                process.wait(PATIENCE_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def key_of(client: Client) -> str:
    return client.http.headers["Authorization"].removeprefix("Bearer ")


def anthropics(url: str, client: Client) -> Anthropic:
    from anthropic import Anthropic

    return Anthropic(base_url=url, api_key=key_of(client), max_retries=0)


def openais(url: str, client: Client) -> OpenAI:
    from openai import OpenAI

    return OpenAI(base_url=f"{url}/v1", api_key=key_of(client), max_retries=0)


def anthropic_whole(url: str, client: Client) -> tuple[str, int]:
    with anthropics(url, client) as sdk:
        answer = sdk.messages.create(model=MODEL, max_tokens=200, messages=HELLO)
    (said,) = answer.content
    assert said.type == "text"
    return said.text, (answer.usage.model_extra or {})["cost_msat"]


def anthropic_stream(url: str, client: Client) -> tuple[str, int | None]:
    with (
        anthropics(url, client) as sdk,
        sdk.messages.stream(model=MODEL, max_tokens=200, messages=HELLO) as stream,
    ):
        return stream.get_final_text(), None


def openai_whole(url: str, client: Client) -> tuple[str, int]:
    with openais(url, client) as sdk:
        answer = sdk.chat.completions.create(model=MODEL, max_tokens=200, messages=HELLO)
    assert answer.usage is not None
    return answer.choices[0].message.content or "", (answer.usage.model_extra or {})["cost_msat"]


def openai_stream(url: str, client: Client) -> tuple[str, int | None]:
    with openais(url, client) as sdk:
        chunks = sdk.chat.completions.create(model=MODEL, max_tokens=200, messages=HELLO, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), None


def ask_whole(url: str, client: Client) -> tuple[str, int]:
    headers = {"authorization": f"Bearer {key_of(client)}"}
    answer = httpx.post(f"{url}/ask", json={"request": "Hello, model"}, headers=headers, timeout=PATIENCE_S).json()
    return answer["result"], answer["debitedMsat"]


def ask_stream(url: str, client: Client) -> tuple[str, int | None]:
    headers = {"authorization": f"Bearer {key_of(client)}"}
    body = {"request": "Hello, model", "stream": True}
    answer = httpx.post(f"{url}/ask", json=body, headers=headers, timeout=PATIENCE_S)
    assert "event: done" in answer.text
    return answer.text, None


Calls = list[Callable[[str, Client], tuple[str, int | None]]]
WHOLE: Calls = [anthropic_whole, openai_whole, ask_whole]
STREAMS: Calls = [anthropic_stream, openai_stream, ask_stream]


@contextmanager
def longer_than_nginx_waits(model: MessagesApi) -> Iterator[None]:
    """The model goes on after that time."""
    timer = threading.Timer(SILENT_S, model.let_go)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        model.let_go()


def test_what_is_long_in_coming_arrives_and_is_charged_once(nginx: str, behind: Served, model: MessagesApi) -> None:
    with session(behind, 5_000) as client, ThreadPoolExecutor() as pool:
        model.hold()
        with longer_than_nginx_waits(model):
            answers = [asked.result() for asked in [pool.submit(call, nginx, client) for call in WHOLE + STREAMS]]
        assert all("Hello, model" in text for text, _ in answers)
        client.settled()
        debits = [entry["amountMsat"] for entry in client.ledger() if entry["kind"] == "debit"]
        assert len(debits) == len(answers)
        assert {told for _, told in answers if told is not None} <= set(debits)
        check_ledger(client)


def test_a_silence_in_the_middle_of_a_stream_does_not_cut_it(nginx: str, behind: Served, model: MessagesApi) -> None:
    with session(behind, 5_000) as client, ThreadPoolExecutor() as pool:
        model.hold_stream(after_events=4)
        with longer_than_nginx_waits(model):
            answers = [asked.result() for asked in [pool.submit(call, nginx, client) for call in STREAMS]]
        assert all("Hello, model" in text for text, _ in answers)
        client.settled()


@pytest.mark.parametrize("call", [anthropic_whole, openai_whole], ids=["anthropic", "openai"])
def test_a_failure_that_comes_late_is_no_answer_and_costs_nothing(
    nginx: str, behind: Served, model: MessagesApi, call: Callable[[str, Client], tuple[str, int]]
) -> None:
    with session(behind) as client, ThreadPoolExecutor() as pool:
        model.hold()
        model.refuses = True
        try:
            begun = model.requests
            asked = pool.submit(call, nginx, client)
            model.wait_for_request(begun + 1)
            threading.Timer(3 * PING_S, model.let_go).start()
            # Of a body that breaks off, each SDK's transport says so in words of its own.
            with pytest.raises(Exception, match=r"(?i)connection|incomplete|peer"):
                asked.result(PATIENCE_S)
        finally:
            model.refuses = False
            model.let_go()
        assert client.settled()["spentMsat"] == 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_who_leaves_stops_the_model_and_pays_for_the_prompt(
    nginx: str, behind: Served, model: MessagesApi, path: str, stream: bool
) -> None:
    with session(behind) as client:
        model.hold()
        cut, body = model.calls_cut, {"model": MODEL, "max_tokens": 200, "messages": HELLO, "stream": stream}
        try:
            headers = {"authorization": f"Bearer {key_of(client)}"}
            with (
                httpx.Client(base_url=nginx, headers=headers, timeout=PATIENCE_S, trust_env=False) as http,
                http.stream("POST", path, json=body) as answer,
            ):
                assert answer.status_code == 200
                next(answer.iter_bytes())
            patiently(lambda: model.calls_cut > cut, "the model goes on")
            assert client.settled()["spentMsat"] == PROMPT_MSAT
        finally:
            model.let_go()
        assert [entry["amountMsat"] for entry in client.ledger() if entry["kind"] == "debit"] == [PROMPT_MSAT]
