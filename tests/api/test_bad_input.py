"""Answers to input that is wrong, hostile, or too large."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from satmeter.config.settings import Environment
from satmeter.http.app import create_app
from tests.helpers.http.fronts import Api, api_over, client_of, converse, listening
from tests.helpers.patience import PATIENCE_S

MIB = 1_048_576


def assert_error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The one shape of all errors."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert isinstance(body["error"], str) and body["error"].endswith(".")
    assert body["requestId"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    return body


DEEP = b'{"request":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
BAD_BODIES = {
    "empty": (b"", ""),
    "white space": (b"  \n", ""),
    "not JSON": (b"request=hello", ""),
    "cut off": (b'{"request": "hel', ""),
    "two values": (b'{"request": "a"} {}', ""),
    "a list": (b'["hello"]', ""),
    "a string": (b'"hello"', ""),
    "null": (b"null", ""),
    "deeply nested": (DEEP, ""),
    "brackets without end": (b"[" * 100_000, ""),
    "not UTF-8": (b'{"request": "\xff"}', ""),
    "a lone surrogate": (b'{"request": "\\ud83d"}', ""),
    "no field": (b"{}", "request"),
    "a number": (b'{"request": 7}', "request"),
    "null inside": (b'{"request": null}', "request"),
    "an object inside": (b'{"request": {}}', "request"),
    "nothing asked": (b'{"request": ""}', "request"),
    "only white space": (b'{"request": " \\n\\t "}', "request"),
    "only white space by Unicode": (b'{"request": " \\u0085 "}', "request"),
    "an unknown field": (b'{"request": "a", "maxTokens": 5}', "maxTokens"),
    "a field that is there twice": (b'{"request": "a", "request": "a"}', "request"),
    "a field that is there twice, once with an escape": (b'{"request": "a", "r\\u0065quest": "b"}', "request"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_body_that_does_not_fit_is_a_400_that_says_where(api: Api, name: str) -> None:
    body, path = BAD_BODIES[name]
    answer = await api.http.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    error = assert_error(answer, 400, "invalid_request")
    assert error["fields"][0]["path"] == path
    assert error["fields"][0]["message"]
    assert api.world.lightning.orders == {}


async def test_of_an_amount_that_is_there_twice_neither_is_taken(api: Api) -> None:
    """Another program on the way may have read the other one. Under /v1/ such a body is refused, too."""
    for body in (
        b'{"amountSats": 1000, "amountSats": 2000}',
        b'{"webhook": {"url": "x", "url": "y"}, "amountSats": 1000}',
    ):
        answer = await api.http.post("/sessions", content=body)
        assert_error(answer, 400, "invalid_request")
    assert api.world.lightning.orders == {}


async def test_a_request_of_too_many_characters_is_too_large(api: Api) -> None:
    answer = await api.http.post("/jobs", json={"request": "\u20bf" * 100_001})
    error = assert_error(answer, 413, "body_too_large")
    assert error["limitChars"] == 100_000 and "100000 characters" in error["error"]
    assert api.world.lightning.orders == {}
    # Among other faults it is one of them.
    assert_error(await api.http.post("/jobs", json={"request": 7, "x": 1}), 400, "invalid_request")


async def test_a_body_with_a_hundred_thousand_wrong_fields_has_a_short_answer(api: Api) -> None:
    body = json.dumps({str(i): 0 for i in range(70_000)})
    error = assert_error(await api.http.post("/jobs", content=body), 400, "invalid_request")
    assert len(json.dumps(error)) < 1_000


async def test_a_field_with_a_long_name_is_not_thrown_back_whole(api: Api) -> None:
    answer = await api.http.post("/jobs", content=json.dumps({"request": "a", "b" * 10_000: 0}))
    assert_error(answer, 400, "invalid_request")
    assert len(answer.content) < 1_000


@pytest.mark.parametrize("request_text", ["x" * 100_000, "é" * 100_000, "😀" * 100_000, "\0"])
async def test_the_longest_request_is_taken_counted_in_characters(api: Api, request_text: str) -> None:
    body = json.dumps({"request": request_text}, ensure_ascii=False).encode()
    assert (await api.http.post("/jobs", content=body)).status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json;charset=utf-16",
        # To read the parameters of this one took most of a second.
        'application/json; a="' + '\\";' * 20_000,
        "",
    ],
)
async def test_a_body_of_another_kind_is_a_415(api: Api, content_type: str) -> None:
    answer = await api.http.post("/jobs", content=b'{"request":"a"}', headers={"Content-Type": content_type})
    assert_error(answer, 415, "unsupported_media_type")


async def test_a_compressed_body_is_a_415(api: Api) -> None:
    answer = await api.http.post("/jobs", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert_error(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Encoding", "identity"), ("Content-Encoding", "gzip")],
        [("Content-Type", "application/json"), ("Content-Type", "text/plain")],
    ],
)
async def test_a_header_that_is_there_twice_is_read_both_times(api: Api, headers: list[tuple[str, str]]) -> None:
    answer = await api.http.post("/jobs", content=b'{"request":"a"}', headers=headers)
    assert_error(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", "application/merge-patch+json", None]
)
async def test_json_is_taken_under_all_its_names_and_none(api: Api, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await api.http.post("/jobs", content=b'{"request":"a"}', headers=headers)
    assert answer.status_code == 201


# Too large


async def test_a_body_of_two_mib_is_a_413_on_a_connection_that_goes_on(api: Api) -> None:
    async with listening(api.app) as server, httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/jobs", content=b"x" * 2 * MIB)
        assert assert_error(answer, 413, "body_too_large")["limitBytes"] == MIB
        assert "connection" not in answer.headers
        assert (await http.post("/jobs", json={"request": "a"})).status_code == 201


async def test_a_body_of_undeclared_length_is_a_413_as_well(api: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b"x" * 65_536

    async with listening(api.app) as server, httpx.AsyncClient(base_url=server.url) as http:
        assert_error(await http.post("/jobs", content=chunks()), 413, "body_too_large")


async def test_a_body_is_counted_whatever_its_declared_length(redis: Redis) -> None:
    async with api_over(redis, body_limit_bytes=1_024) as api:
        headers = {"Content-Length": "10"}
        answer = await api.http.post("/jobs", content=b'{"request":"%b"}' % (b"x" * 1_024), headers=headers)
        assert_error(answer, 413, "body_too_large")


async def test_a_body_just_at_the_limit_is_read(redis: Redis) -> None:
    async with api_over(redis, body_limit_bytes=1_024) as api:
        body = b'{"request":"%b"}'
        fitting = body % (b"x" * (1_024 - len(body) + 2))
        assert len(fitting) == 1_024
        assert (await api.http.post("/jobs", content=fitting)).status_code == 201
        assert_error(await api.http.post("/jobs", content=fitting + b" "), 413, "body_too_large")


async def test_a_body_without_end_is_cut_off_with_an_answer(api: Api) -> None:
    chunk = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB)
    head = b"POST /jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with listening(api.app) as server:
        # No more than the server is willing to throw away: what is still on its way resets the connection.
        answer = await converse(server.port, head + chunk * 8 + b"1\r\nx\r\n", until_closed=True)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


async def test_a_client_that_asks_before_it_sends_is_refused_without_sending(api: Api) -> None:
    head = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    async with listening(api.app) as server:
        answer = await converse(server.port, head, until_closed=True)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer


async def test_a_client_that_goes_away_in_the_middle_of_its_body_leaves_nothing(api: Api) -> None:
    async with listening(api.app) as server, httpx.AsyncClient(base_url=server.url) as http:
        half = b'POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"request":"}'
        assert b"HTTP" not in await _half_closed(server.port, half)
        assert (await http.get("/healthz")).status_code == 200
    assert api.world.lightning.orders == {}


async def _half_closed(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        received = await reader.read()
    writer.close()
    return received


# Paths and methods


@pytest.mark.parametrize("path", ["/nothing", "/nothing/", "/readyz/", "/dev/stub/pay", "/docs/x", "/favicon.ico"])
async def test_an_unknown_path_is_a_404_and_never_a_redirect(api: Api, path: str) -> None:
    assert_error(await api.http.get(f"http://satmeter.test{path}"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/jobs", "OPTIONS, POST"),
        ("DELETE", "/jobs", "OPTIONS, POST"),
        ("POST", "/demo", "GET, HEAD, OPTIONS"),
        ("PUT", f"/jobs/job_{'a' * 32}", "GET, HEAD, OPTIONS"),
        ("TRACE", "/pricing", "GET, HEAD, OPTIONS"),
        ("BREW", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_is_a_405_that_says_which_are_right(api: Api, method: str, path: str, allow: str) -> None:
    answer = await api.http.request(method, path)
    assert_error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allow


async def test_options_says_which_methods_there_are(api: Api) -> None:
    answer = await api.http.options("/jobs")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, "OPTIONS, POST", b"")
    assert_error(await api.http.options("/nothing"), 404, "not_found")


async def test_an_error_to_head_has_its_headers(api: Api) -> None:
    async with listening(api.app) as server, httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.head("/nothing")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"].startswith("req_")
        assert (await http.get("/healthz")).status_code == 200


async def test_production_has_no_dev_paths(api: Api) -> None:
    job = await api.create()
    settings = api.state.settings.model_copy(update={"env": Environment.PRODUCTION})
    async with client_of(create_app(replace(api.state, settings=settings))) as http:
        answer = await http.post(f"/dev/stub/pay/{job['evalInvoice']['paymentHash']}")
        assert_error(answer, 404, "not_found")
        assert "/dev" not in (await http.get("/openapi.json")).text
    assert (await api.show(job["jobId"]))["state"] == "awaiting_eval_payment"


async def test_a_real_node_has_no_dev_paths(api: Api) -> None:
    async with client_of(create_app(replace(api.state, stub_node=None))) as http:
        assert_error(await http.post(f"/dev/stub/pay/{'0' * 64}"), 404, "not_found")


@pytest.mark.parametrize("payment_hash", ["0" * 64, "0" * 63, "G" * 64, "x", f"{'0' * 64}%0A"])
async def test_an_invoice_that_the_stub_node_does_not_know_is_not_found(api: Api, payment_hash: str) -> None:
    assert_error(await api.http.post(f"/dev/stub/pay/{payment_hash}"), 404, "not_found")


async def test_an_unforeseen_error_is_a_500_without_a_word_of_it(api: Api) -> None:
    class Broken:
        async def call(self, *args: object) -> None:
            raise RuntimeError("the password is 1234")

    async with client_of(create_app(replace(api.state, router=Broken()))) as http:  # type: ignore[arg-type]
        answer = await http.get(f"/jobs/job_{'a' * 32}")
        assert_error(answer, 500, "internal_error")
        assert "1234" not in answer.text and "RuntimeError" not in answer.text
        assert (await http.head(f"/jobs/job_{'a' * 32}")).status_code == 500
