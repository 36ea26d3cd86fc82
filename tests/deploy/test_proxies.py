"""The files for nginx and Caddy in deploy/single, in the real programs, with TLS, before a real server."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_large_bodies import messages_call, pictures
from tests.helpers.cluster.jobs import create
from tests.helpers.cluster.sessions import Client, check_ledger, session
from tests.helpers.patience import PATIENCE_S
from tests.helpers.proxies import SINGLE, Proxy, caddy_files, program, proxied
from tests.helpers.quick_disk import quick_disk
from tests.helpers.served import MessagesApi, Served, patiently, served

MODEL = "claude-sonnet-5-5"
HELLO: list[Any] = [{"role": "user", "content": "Name three uses of a sextant."}]
MIB = 1_048_576


@pytest.fixture(scope="module")
def model() -> Iterator[MessagesApi]:
    api = MessagesApi()
    yield api
    api.close()


def environment(model: MessagesApi, **more: str) -> dict[str, str]:
    return {
        "SATMETER_HOSTS": "1",
        "SATMETER_PING_S": "0.5",
        "SATMETER_RATE_LIMITS": "on",
        "SATMETER_DEMO_PER_HOUR": "1",
        "SATMETER_TRUSTED_PROXIES": "127.0.0.1",
        "ANTHROPIC_API_KEY": "test",
        "ANTHROPIC_BASE_URL": model.url,
        **more,
    }


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sm-", dir=quick_disk()) as found:
        yield Path(found)


@pytest.fixture(scope="module")
def behind(model: MessagesApi, directory: Path) -> Iterator[Served]:
    with served(directory / "data", None, (), **environment(model)) as server:
        yield server


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(behind: Served, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    with proxied(request.param, behind.port) as found:
        yield found


def key_of(client: Client) -> str:
    return str(client.http.headers["Authorization"]).removeprefix("Bearer ")


def test_the_programs_themselves_take_the_files_as_they_stand(directory: Path) -> None:
    """But for ports and certificates, which a test can't have."""
    with tempfile.TemporaryDirectory(prefix="sm-") as made:
        place = Path(made)
        run = subprocess.run(
            [program("caddy"), "fmt", "--diff", SINGLE / "Caddyfile"], capture_output=True, text=True, check=False
        )
        assert [line for line in run.stdout.splitlines() if line[:1] in "+-" and line[1:].strip()] == [], run.stdout
        caddy_files(place, 1)
        adapted = subprocess.run(
            [program("caddy"), "adapt", "--config", place / "Caddyfile", "--adapter", "caddyfile"],
            env={**os.environ, "SITE_ADDRESS": "satmeter.example"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert adapted.returncode == 0, adapted.stderr
        assert "flush_interval" not in adapted.stdout
        (site,) = json.loads(adapted.stdout)["apps"]["http"]["servers"].values()
        assert site["max_header_bytes"] == 64_000


def test_a_session_by_anthropics_sdk_arrives_piece_by_piece(proxy: Proxy, behind: Served, model: MessagesApi) -> None:
    from anthropic import Anthropic, DefaultHttpxClient

    with (
        session(behind) as client,
        Anthropic(
            base_url=proxy.url,
            api_key=key_of(client),
            max_retries=0,
            http_client=DefaultHttpxClient(verify=proxy.trust, trust_env=False),
        ) as sdk,
    ):
        model.hold_stream(after_events=4)
        try:
            with sdk.messages.stream(model=MODEL, max_tokens=200, messages=HELLO) as stream:
                # The rest is held back: what comes now was not kept for the whole.
                beginning = next(stream.text_stream)
                model.let_go()
                assert beginning and stream.get_final_text().startswith(beginning)
        finally:
            model.let_go()
        answer = sdk.messages.create(model=MODEL, max_tokens=200, messages=HELLO)
        assert "sextant" in getattr(answer.content[0], "text", "")
        client.settled()
        check_ledger(client)


def test_a_client_that_leaves_stops_its_call(proxy: Proxy, behind: Served, model: MessagesApi) -> None:
    with session(behind) as client, proxy.client(headers={"authorization": f"Bearer {key_of(client)}"}) as http:
        model.hold()
        cut = model.calls_cut
        try:
            body = {"model": MODEL, "max_tokens": 200, "messages": HELLO}
            with http.stream("POST", "/v1/messages", json=body) as answer:
                # Before the answer come pings, one by one, as in a stream.
                assert next(answer.iter_raw()).strip() == b""
            patiently(lambda: model.calls_cut > cut, "the model goes on")
        finally:
            model.let_go()
        client.settled()


def test_twenty_mib_pass_for_a_session_that_is_paid_for(proxy: Proxy, behind: Served) -> None:
    call = {**messages_call(pictures(20)), "model": MODEL}
    with session(behind, 20_000) as client, proxy.client(headers={"authorization": f"Bearer {key_of(client)}"}) as http:
        answer = http.post("/v1/messages", json=call)
        assert int(answer.request.headers["content-length"]) > 19 * MIB
        assert answer.status_code == 200, answer.text
        client.settled()


@pytest.mark.parametrize(("path", "size"), [("/jobs", 2 * MIB), ("/jobs", 9 * MIB), ("/v1/messages", 40 * MIB)])
def test_what_is_too_large_is_refused_while_it_comes(proxy: Proxy, path: str, size: int) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    )
    sent, piece, answer = 0, b" " * 65_536, b""
    with (
        socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S) as plain,
        proxy.trust.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(head.encode())
        # A client that goes on sending, as most do until they are told.
        while sent < size and not answer:
            connection.settimeout(PATIENCE_S)
            connection.sendall(piece)
            sent += len(piece)
            connection.settimeout(0.01)
            with suppress(TimeoutError):
                answer = connection.recv(4_096)
        connection.settimeout(PATIENCE_S)
        answer = answer or connection.recv(4_096)
    # In the server's own words, which a proxy's refusal has not.
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"code":"body_too_large"' in answer


def test_a_head_that_is_too_large_is_refused(proxy: Proxy) -> None:
    with proxy.client() as http:
        assert http.get("/pricing", headers={"x-long": "x" * 12_000}).status_code == 200
        assert http.get("/pricing", headers={"x-long": "x" * 100_000}).status_code in (400, 431)


def test_each_client_is_counted_by_its_own_address(proxy: Proxy) -> None:
    """The demo is free once an hour for each of them."""
    first, second = {"nginx": ("127.0.9.1", "127.0.9.2"), "caddy": ("127.0.8.1", "127.0.8.2")}[proxy.name]
    with proxy.client(first) as one, proxy.client(second) as other:
        asked = {"request": "What is a sextant?"}
        assert one.get("/demo", params=asked).status_code == 200
        assert one.get("/demo", params=asked).status_code == 429
        told = {"X-Forwarded-For": "8.8.8.8", "Forwarded": "for=8.8.8.8", "X-Real-IP": "8.8.8.8"}
        assert one.get("/demo", params=asked, headers=told).status_code == 429
        assert other.get("/demo", params=asked).status_code == 200


def test_figures_are_for_the_machine_itself_and_http_2_is_spoken(proxy: Proxy) -> None:
    with proxy.client() as http:
        assert http.get("/metrics").status_code == 404
        answer = http.get("/")
        assert answer.status_code == 200 and "max-age" in answer.headers["strict-transport-security"]
    trust = ssl.create_default_context(cafile=str(proxy.directory / "cert.pem"))
    trust.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", proxy.port)) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"


def test_the_server_is_started_again_behind_it(directory: Path, model: MessagesApi) -> None:
    """A client of each proxy meets both a front that dies with its request in hand, and a server that is away."""
    settings = environment(model, SATMETER_PING_S="10")
    with (
        served(directory / "again", None, (), **settings) as server,
        session(server) as client,
        proxied("nginx", server.port) as nginx,
        proxied("caddy", server.port) as caddy,
        nginx.client(headers={"authorization": f"Bearer {key_of(client)}"}) as by_nginx,
        caddy.client(headers={"authorization": f"Bearer {key_of(client)}"}) as by_caddy,
    ):
        assert by_nginx.get(client.path).status_code == by_caddy.get(client.path).status_code == 200
        job = create(server)["jobId"]
        assert by_nginx.get(f"/jobs/{job}").status_code == by_caddy.get(f"/jobs/{job}").status_code == 200
        _front_dies_with_requests(server, model, [by_nginx, by_caddy])
        server.descendants()
        os.kill(server.process.pid, signal.SIGKILL)
        patiently(lambda: not server.left_over(), "the server goes on")
        away = by_nginx.get(f"/jobs/{job}")
        assert (away.status_code, away.json()["retryAction"]) == (503, "retry")
        assert int(away.headers["retry-after"]) > 0 and "x-should-retry" not in away.headers
        answers: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(by_caddy.get(client.path)))
        waiting.start()
        with served(directory / "again", server.port, (), **settings):
            waiting.join(PATIENCE_S)
            assert [answer.status_code for answer in answers] == [200]
            assert by_nginx.get(client.path).json()["state"] == "active"
        for proxy in (nginx, caddy):
            assert job not in proxy.logs() and client.session_id not in proxy.logs()


def _front_dies_with_requests(server: Served, model: MessagesApi, clients: list[httpx.Client]) -> None:
    """Kills the front while it works on one request of each: they hear that the outcome is unknown."""
    answers: list[httpx.Response] = []
    body = {"model": MODEL, "max_tokens": 200, "messages": HELLO}
    model.hold()
    begun = model.requests

    def ask(http: httpx.Client) -> None:
        answers.append(http.post("/v1/messages", json=body))

    asking = [threading.Thread(target=ask, args=(http,)) for http in clients]
    for thread in asking:
        thread.start()
    model.wait_for_request(begun + len(clients))
    # No ping has been sent yet, so that there is no head of an answer either.
    server.kill("satmeter.scripts.server.front")
    for thread in asking:
        thread.join(PATIENCE_S)
    model.let_go()
    assert [(answer.status_code, answer.json()["retryAction"]) for answer in answers] == [(502, "retry_same_key")] * 2
    assert all(answer.headers["x-should-retry"] == "false" for answer in answers)
