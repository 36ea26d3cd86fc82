"""`satmeter check` asks each upstream of the models file for its list of models."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from satmeter.config.settings import Settings
from satmeter.scripts.preflight.upstream_probes import upstream_problems

FILE = """
[[upstreams]]
name = "local"
api = "{api}"
base_url = "http://127.0.0.1:8080{path}"
key_env = "LOCAL_KEY"

[models.tiny]
upstream = "local"
model = "tiny-llama"
input = "1"
output = "2"
cache_read = "1"
cache_write_5m = "1"
cache_write_1h = "1"
"""


async def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, api: str = "openai"
) -> tuple[list[str], list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    path = tmp_path / "models.toml"
    path.write_text(FILE.format(api=api, path="/v1" if api == "openai" else ""))
    monkeypatch.setenv("LOCAL_KEY", "sk-local")
    monkeypatch.setenv("SATMETER_MODELS_FILE", str(path))
    monkeypatch.setenv("EVAL_MODEL", "tiny")
    monkeypatch.setenv("WORK_MODEL", "tiny")
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as http:
        problems = await upstream_problems(Settings(), http)
    assert all("sk-local" not in str(problem) for problem in problems)
    return [problem.message for problem in problems], asked


@pytest.mark.parametrize(("api", "path"), [("openai", "/v1/models"), ("anthropic", "/v1/models?limit=1000")])
async def test_an_upstream_that_lists_the_model_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: str, path: str
) -> None:
    listing = httpx.Response(200, json={"data": [{"id": "other"}, {"id": "tiny-llama"}]})
    problems, asked = await told(tmp_path, monkeypatch, listing, api)
    assert problems == []
    assert str(asked[0].url) == f"http://127.0.0.1:8080{path}"
    assert asked[0].headers["authorization"] == "Bearer sk-local"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.ConnectError("no"), "does not answer at http://127.0.0.1:8080/v1: start it"),
        (httpx.Response(401), "does not accept its key"),
        (httpx.Response(500), "answers with status 500"),
        (httpx.Response(200, json={"data": [{"id": "other"}]}), "does not list tiny-llama"),
    ],
)
async def test_what_is_wrong_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response | Exception, said: str
) -> None:
    (problem,), _ = await told(tmp_path, monkeypatch, answer)
    assert problem.startswith("Upstream local ") and said in problem


@pytest.mark.parametrize("answer", [httpx.Response(404), httpx.Response(503), httpx.Response(200, content=b"ok")])
async def test_a_server_without_a_list_is_not_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: httpx.Response
) -> None:
    assert (await told(tmp_path, monkeypatch, answer))[0] == []
