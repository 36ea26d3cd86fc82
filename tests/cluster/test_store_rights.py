"""A whole server over a store that speaks only TLS, as the user of deploy/store-user.acl: all it does."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from tests.helpers.cluster.commands import satmeter
from tests.helpers.cluster.jobs import create, finish, pay
from tests.helpers.cluster.sessions import Client, session
from tests.helpers.secure_stores import PASSWORD, SecureStore, refused_to, rights, tls_store, used_in
from tests.helpers.served import MessagesApi, Served, served

# What the test's own client, with all rights, asked of the store.
OF_THE_TEST = {"acl", "acl|setuser", "acl|log", "ping", "info", "auth", "hello", "command", "client|setinfo"}
BODIES: dict[str, Any] = {
    "/v1/messages": {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
    "/v1/messages/count_tokens": {"model": "claude-haiku-5-5", "messages": [{"role": "user", "content": "x"}]},
    "/v1/chat/completions": {"model": "claude-haiku-5-5", "messages": [{"role": "user", "content": "x"}]},
    "/v1/responses": {"model": "claude-haiku-5-5", "input": "x"},
    "/v1/responses/input_tokens": {"model": "claude-haiku-5-5", "input": "x"},
    "/ask": {"request": "x"},
    "/jobs": {"request": "x"},
    "/sessions": {"amountSats": 100},
    "/sessions/{sessionId}/request": {"request": "x"},
    "/sessions/{sessionId}/topup": {"amountSats": 100},
    "/sessions/{sessionId}/close": {},
    "/dev/stub/invoice": {"amountSats": 10},
}


def each_operation(server: Served, client: Client, ids: dict[str, str]) -> list[str]:
    """Calls every operation of the document, closing the session last; returns those that failed by our fault."""
    document = server.client.get("/openapi.json").json()
    found = [
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
        if method in ("get", "post")
    ]
    assert len(found) > 30
    wrong = []
    for method, path in sorted(found, key=lambda operation: operation[1].endswith("/close")):
        if path.endswith("/events"):
            continue  # It ends with the job, and is read beside it.
        url = re.sub(r"\{(\w+)\}", lambda part: ids.get(part[1], "x"), path)
        params = {"request": "x"} if path == "/demo" else {}
        for http in (client.http, server.client):
            answer = http.request(method, url, json=BODIES.get(path) if method == "POST" else None, params=params)
            if answer.status_code >= 500:
                wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
    return wrong


def goes_through_all(server: Served, store: SecureStore) -> None:
    made = create(server)
    pay(server, made["evalInvoice"])
    done = finish(server, made["jobId"])
    with server.client.stream("GET", f"/jobs/{done['jobId']}/events") as events:
        assert b"complete" in events.read()
    with session(server) as client:
        asked = client.ask()
        assert client.ledger()
        with client.stream("Name a star.") as pieces:
            assert [name for name, _ in pieces][-1] == "done"
        ids = {"jobId": made["jobId"], "sessionId": client.session_id, "requestId": asked["requestId"]}
        assert each_operation(server, client, ids) == []
    words = ("--redis-url", store.url, "--data-dir", str(server.data_dir))
    assert satmeter("scale", *words).returncode == 0
    audited = satmeter("audit", *words)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    to = str(server.data_dir.parent / "archive.jsonl")
    archived = satmeter("archive", *words, "--to", to, "--older-than", "3d")
    assert archived.returncode == 0, archived.stderr


def test_all_operations_and_commands_need_no_other_rights(data_dir: Path, model: MessagesApi) -> None:
    async def run() -> None:
        async with tls_store() as store:
            given: dict[str, Any] = {
                "ANTHROPIC_API_KEY": "test",
                "ANTHROPIC_BASE_URL": model.url,
                "SATMETER_HOSTS": "1",
                "SATMETER_PUBLIC_URL": "http://127.0.0.1:8402",
            }
            with served(data_dir, REDIS_URL=store.url, **given) as server:
                await asyncio.to_thread(goes_through_all, server, store)
                assert PASSWORD not in server.log()
            with served(data_dir, REDIS_URL=store.url, **given):
                pass
            assert await refused_to(store.admin) == []
            allowed = {word.removeprefix("+") for word in rights()}
            assert await used_in(store.admin) - OF_THE_TEST - allowed == set()

    asyncio.run(run())
