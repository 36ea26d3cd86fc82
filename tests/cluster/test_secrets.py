"""A whole run of a server, after which no secret is where it should not be: searched for in all that it left or runs.

Prompts are in the store in the journals of jobs alone, which must outlive a crash until their work is done.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from satmeter.actors.domain.credentials import macaroon
from satmeter.scripts.store.binary import find_binary
from tests.helpers.cluster.echoes import PROMPT, EchoingNode, EchoingProvider
from tests.helpers.cluster.leaks import Secrets, in_files, in_memory, in_processes, in_texts
from tests.helpers.cluster.wallets import wallet_invoice, wallet_pays
from tests.helpers.custody import ending_with_us
from tests.helpers.lnurl_servers import url_of_lnurl
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served, free_port, patiently
from tests.lnbits.server import Lnbits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there processes can be looked into")

MODELS = """
[[upstreams]]
name = "stub"
api = "anthropic"
base_url = "{url}"
key_env = "PROVIDER_KEY"
[models.small]
upstream = "stub"
input = "1"
output = "2"
cache_read = "1"
cache_write_5m = "1"
cache_write_1h = "1"
"""
PROVIDER, INVOICE, ADMIN, STORE = "PROVIDER_KEY", "LNBITS_INVOICE_KEY", "LNBITS_ADMIN_KEY", "the store's password"
ROOT, PREVIOUS, OPERATOR = "MACAROON_ROOT_KEY", "MACAROON_ROOT_KEY_PREVIOUS", "OPERATOR_TOKEN"
KEYS = (PROVIDER, INVOICE, ADMIN, STORE, ROOT, PREVIOUS, OPERATOR)
IN_ENVIRONMENT = (PROVIDER, INVOICE, ADMIN, ROOT)
"""The others come from files."""


@dataclass
class Run:
    """A server, what lies outside it, and all that its clients sent and got."""

    server: Served
    lnbits: Lnbits
    node: EchoingNode
    provider: EchoingProvider
    store: Redis
    store_dir: Path
    keys: dict[str, str]
    macaroons: dict[str, str] = field(default_factory=dict)
    preimages: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)
    answers: list[tuple[str, int, bytes]] = field(default_factory=list)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        answer = self.server.client.request(method, path, json=body, headers=headers)
        told = repr(sorted(answer.headers.items())).encode() + answer.content
        self.answers.append((f"{method} {path}"[:60], answer.status_code, told))
        return answer

    def prompt(self, name: str) -> str:
        self.prompts[f"prompt of {name}"] = text = PROMPT.format(secrets.token_hex(20))
        return text

    def bearer(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.macaroons[name]}"}

    @property
    def private_dirs(self) -> list[Path]:
        pids = {self.server.process.pid, *self.server.descendants()}
        return [path for path in Path("/tmp").glob(f"satmeter-{os.getuid()}-*") if int(path.name.split("-")[2]) in pids]

    def stored(self) -> bytes:
        """All that the store has, on its disk, and as it would dump it."""
        self.store.save()
        return b"\0".join(path.read_bytes() for path in sorted(self.store_dir.rglob("*")) if path.is_file())


@contextmanager
def own_store(directory: Path, password: str) -> Iterator[tuple[Redis, str]]:
    """A store as an operator runs one. Its password is on its standard input."""
    port = free_port()
    options = ["--port", str(port), "--dir", str(directory), "--appendonly", "yes", "--appendfsync", "always"]
    process = subprocess.Popen(
        ending_with_us([str(find_binary()), "-", *options, "--rdbcompression", "no", "--save", ""]),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(f"requirepass {password}\n".encode())
    process.stdin.close()
    client = Redis(port=port, password=password)
    try:
        patiently(lambda: _answers(client), "the store does not answer")
        yield client, f"redis://:{password}@127.0.0.1:{port}/0"
    finally:
        client.close()
        process.kill()
        process.wait()


def _answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except OSError:
        return False
    except Exception as error:
        return "LOADING" in str(error)


@pytest.fixture(scope="module")
def run(lnbits: Lnbits) -> Iterator[Run]:
    """The whole run. The server still runs when the tests search."""
    wallet = lnbits.new_wallet()
    password = secrets.token_hex(16)
    keys = {
        PROVIDER: f"sk-{secrets.token_hex(16)}",
        INVOICE: wallet.invoice_key,
        ADMIN: wallet.admin_key,
        STORE: password,
        ROOT: secrets.token_hex(32),
        PREVIOUS: secrets.token_hex(32),
        OPERATOR: secrets.token_hex(32),
    }
    node, provider = EchoingNode(lnbits.url), EchoingProvider()
    with tempfile.TemporaryDirectory(prefix="sm-") as name:
        directory = Path(name)
        for part in ("store", "keys"):
            (directory / part).mkdir()
        (directory / "models.toml").write_text(MODELS.format(url=provider.url))
        with own_store(directory / "store", password) as (client, url):
            files = {"REDIS_URL": url, PREVIOUS: keys[PREVIOUS], OPERATOR: keys[OPERATOR]}
            for variable, text in files.items():
                (directory / "keys" / variable).write_text(f"{text}\n")
                (directory / "keys" / variable).chmod(0o600)
            environment = {
                **{variable: keys[variable] for variable in IN_ENVIRONMENT},
                **{f"{variable}_FILE": str(directory / "keys" / variable) for variable in files},
                "LNBITS_URL": node.url,
                "SATMETER_MODELS_FILE": str(directory / "models.toml"),
                "EVAL_MODEL": "small",
                "WORK_MODEL": "small",
                "SATMETER_LOG_LEVEL": "debug",
                "SATMETER_PUBLIC_URL": "https://satmeter.example",
                "SATMETER_HOSTS": "1",
            }
            server = Served(directory / "data", environment)
            try:
                server.wait_until_ready()
                found = Run(server, lnbits, node, provider, client, directory / "store", keys)
                live(found)
                yield found
            finally:
                server.close()
                node.close()
                provider.close()


def live(run: Run) -> None:
    """Do all that clients do, right and wrong, with a provider and a node that do well and badly."""
    sessions(run)
    l402(run)
    job(run)
    wrong_credentials(run)
    echoes(run)
    refunds(run)
    withdrawals(run)
    for path in ("/metrics", "/readyz", "/healthz", "/openapi.json", "/.well-known/satmeter.json", "/nowhere"):
        run.call("GET", path, Authorization=f"Bearer {run.keys[OPERATOR]}")


def opened(run: Run, name: str) -> str:
    """Open a session with its deposit paid; return its path."""
    made = run.call("POST", "/sessions", {"amountSats": 2_000}).json()
    run.macaroons[name] = made["macaroon"]
    wallet_pays(run.lnbits, made["depositInvoice"])
    path = f"/sessions/{made['sessionId']}"
    patiently(lambda: run.call("GET", path, **run.bearer(name)).json()["state"] == "active", "no deposit")
    return path


def sessions(run: Run) -> None:
    path = opened(run, "a session's macaroon")
    holder = run.bearer("a session's macaroon")
    narrow = macaroon.attenuate(run.macaroons["a session's macaroon"], ["max_msat = 500000", "name = helper"])
    run.macaroons["a narrowed macaroon"] = narrow
    once = {"Idempotency-Key": secrets.token_hex(8)}
    asked = {"request": run.prompt("a request"), "maxTokens": 100}
    for credential in (holder, holder, run.bearer("a narrowed macaroon")):
        answer = run.call("POST", f"{path}/request", asked, **credential, **once)
        assert answer.json()["state"] == "complete", answer.text
    run.call("POST", f"{path}/request", {**asked, "stream": True, "request": run.prompt("a stream")}, **holder)
    body = {
        "model": "small",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": run.prompt("a relayed call")}],
        "metadata": {"user_id": "someone"},
    }
    assert run.call("POST", "/v1/messages", body, **holder).status_code == 200
    body["messages"] = [{"role": "user", "content": run.prompt("a relayed stream")}]
    assert run.call("POST", "/v1/messages", {**body, "stream": True}, **holder).status_code == 200
    del body["metadata"]
    body["messages"] = [{"role": "user", "content": run.prompt("a translated call")}]
    assert run.call("POST", "/v1/chat/completions", body, **holder).status_code == 200
    for what in ("ledger?limit=20", ""):
        run.call("GET", f"{path}/{what}".rstrip("/"), **holder)
    run.call("POST", f"{path}/topup", {"amountSats": 200}, **holder)


def l402(run: Run) -> None:
    asked = {"request": run.prompt("a call by L402")}
    challenge = run.call("POST", "/ask", asked)
    assert challenge.status_code == 402
    token = challenge.headers["www-authenticate"].split('macaroon="')[1].split('"')[0]
    run.macaroons["an L402 macaroon"] = token
    invoice = challenge.json()["depositInvoice"]
    wallet_pays(run.lnbits, invoice)
    paid = httpx.get(
        f"{run.lnbits.url}/api/v1/payments/{invoice['paymentHash']}",
        headers={"X-Api-Key": run.lnbits.payer.admin_key},
        timeout=PATIENCE_S,
        trust_env=False,
    ).json()
    preimage = paid.get("preimage") or ""
    if len(preimage) == 64 and set(preimage) != {"0"}:
        run.preimages["a preimage"] = preimage
        answer = run.call("POST", "/ask", asked, Authorization=f"L402 {token}:{preimage}")
        assert answer.status_code in (200, 401), answer.text
    answer = run.call("POST", "/ask", asked, Authorization=f"Bearer {token}")
    assert answer.status_code == 200, answer.text


def job(run: Run) -> None:
    made = run.call("POST", "/jobs", {"request": run.prompt("a job")}).json()
    wallet_pays(run.lnbits, made["evalInvoice"])
    path = f"/jobs/{made['jobId']}"

    def state() -> str:
        return str(run.call("GET", path).json()["state"])

    patiently(lambda: state() == "awaiting_work_payment", "no quote")
    wallet_pays(run.lnbits, run.call("GET", path).json()["workInvoice"])
    patiently(lambda: state() == "complete", "no work")
    run.call("GET", f"{path}/receipt")


def wrong_credentials(run: Run) -> None:
    good = run.macaroons["a session's macaroon"]
    forged = good[:-6] + "AAAAAA"
    run.macaroons["a forged macaroon"] = forged
    run.preimages["a wrong preimage"] = wrong = secrets.token_hex(32)
    asked = {"request": run.prompt("a refused request")}
    for header in (
        f"Bearer {forged}",
        f"L402 {good}:{wrong}",
        f"Basic {run.keys[OPERATOR]}",
        f"Bearer {run.keys[ADMIN]}",
    ):
        for path in ("/ask", "/v1/messages", "/v1/chat/completions"):
            assert run.call("POST", path, asked, Authorization=header).status_code in (400, 401)
    run.call("POST", "/v1/messages", asked, **{"x-api-key": forged})
    run.call("GET", "/metrics", Authorization=f"Bearer {run.keys[ROOT]}")
    run.call("POST", "/jobs", {"request": run.prompt("a wrong body"), "surplus": run.keys[ADMIN]})


def echoes(run: Run) -> None:
    path = opened(run, "the macaroon of a session with errors")
    holder = run.bearer("the macaroon of a session with errors")
    body = {"model": "small", "max_tokens": 100, "messages": [{"role": "user", "content": run.prompt("an error")}]}
    # The last ones make the model count as away.
    for status in (400, 413, 422, 404, 429, 500, 401):
        run.provider.echoes = status
        for call in (body, {**body, "stream": True}):
            run.call("POST", "/v1/messages", call, **holder)
        run.call("POST", "/v1/chat/completions", body, **holder)
        run.call("POST", f"{path}/request", {"request": run.prompts["prompt of an error"]}, **holder)
        run.call("POST", "/v1/messages/count_tokens", {k: v for k, v in body.items() if k != "max_tokens"}, **holder)
    run.call("GET", "/demo?request=hello")
    run.provider.echoes = None
    patiently(lambda: run.call("GET", "/readyz").status_code == 200, "the model stays away")
    for status in (401, 404, 500, 520):
        run.node.echoes = status
        run.call("POST", "/sessions", {"amountSats": 1_000})
        run.call("POST", "/jobs", {"request": run.prompt(f"a job without an invoice, {status}")})
        run.call("POST", f"{path}/topup", {"amountSats": 300}, **holder)
        run.call("GET", "/readyz")
    # A refund that the node refuses, with the key in its words.
    invoice = wallet_invoice(run.lnbits, 50)
    run.call("POST", f"{path}/close", {"paymentRequest": invoice}, **holder)
    run.node.echoes = None
    patiently(lambda: run.call("GET", "/readyz").status_code == 200, "the node stays away")


def refunds(run: Run) -> None:
    name = "the macaroon of a session with a refund"
    path = opened(run, name)
    closed = run.call(
        "POST", f"{path}/close", {"paymentRequest": wallet_invoice(run.lnbits, 1_900)}, **run.bearer(name)
    )
    assert closed.status_code in (200, 425), closed.text
    patiently(lambda: run.call("GET", path, **run.bearer(name)).json()["refund"]["paidMsat"] == 1_900_000, "no refund")


def withdrawals(run: Run) -> None:
    """A wallet takes the rest of a session by its link, with wrong and right words."""
    name = "the macaroon of a session with a link"
    path = opened(run, name)
    link = run.call("POST", f"{path}/withdraw", **run.bearer(name)).json()["refund"]["withdraw"]
    url = url_of_lnurl(link["lnurl"]).removeprefix("https://satmeter.example")
    offer = run.call("GET", url).json()
    run.macaroons |= {"a link": link["lnurl"], "a link's token": url.rpartition("/")[2], "a link's k1": offer["k1"]}
    callback = offer["callback"].removeprefix("https://satmeter.example")
    for query in ("k1=wrong&pr=lnbc1", f"k1={offer['k1']}&pr=lnbc1"):
        assert run.call("GET", f"{callback}?{query}").json()["status"] == "ERROR"
    assert run.call("POST", url).status_code == 405
    assert run.call("GET", f"{url}x/qr.svg").status_code == 404
    assert run.call("GET", f"{url}/qr.svg").status_code == 200
    invoice = wallet_invoice(run.lnbits, 1_900)
    assert run.call("GET", f"{callback}?k1={offer['k1']}&pr={invoice}").json() == {"status": "OK"}
    patiently(lambda: run.call("GET", path, **run.bearer(name)).json()["refund"]["paidMsat"] == 1_900_000, "no refund")


def all_of(run: Run) -> Secrets:
    return Secrets.of({**run.keys, **run.macaroons, **run.preimages, **run.prompts})


def test_no_process_has_a_secret_in_its_environment_or_its_command_line(run: Run) -> None:
    """But the launcher, whose environment is what the operator made it."""
    launcher = run.server.process.pid
    assert in_processes(all_of(run), [pid for pid in run.server.descendants() if pid != launcher]) == set()
    given = {f"{name} in environ of {{}}" for name in IN_ENVIRONMENT}
    told = in_processes(all_of(run), [launcher])
    assert {place.partition(" of ")[0] for place in told} == {place.partition(" of ")[0] for place in given}


@pytest.mark.parametrize(
    ("process", "holds"),
    [
        ("gcs_server", ()),
        ("raylet", ()),
        ("satmeter.scripts.server.front", (STORE, OPERATOR)),
        ("ray::HostActor", (STORE, INVOICE, PROVIDER)),
        ("ray::TreasuryActor", (STORE, INVOICE, ADMIN)),
        ("ray::OracleActor", (STORE, PROVIDER)),
    ],
)
def test_a_process_has_in_its_memory_only_the_keys_that_its_work_needs(
    run: Run, process: str, holds: tuple[str, ...]
) -> None:
    pids = run.server.descendants(process)
    assert pids, "it does not run"
    # Strangers sent these as credentials, and what they send passes through a front.
    sent = (OPERATOR, ADMIN, ROOT) if "front" in process else ()
    try:
        found = in_memory(Secrets.of(run.keys).without(*holds, *sent), pids)
        if holds:
            # The search does find what is there.
            assert len(in_memory(Secrets.of(run.keys).only(*holds), pids)) >= len(holds)
    except PermissionError:
        pytest.skip("this user may not look into its own processes")
    assert found == set()


def test_ray_keeps_no_macaroon_preimage_or_prompt(run: Run) -> None:
    rays = [*run.server.descendants("gcs_server"), *run.server.descendants("raylet")]
    try:
        assert in_memory(all_of(run).without(*KEYS), rays) == set()
    except PermissionError:
        pytest.skip("this user may not look into its own processes")


def test_no_file_of_the_server_or_of_ray_and_no_log_has_a_secret(run: Run) -> None:
    places = [run.server.data_dir, *run.private_dirs]
    assert len(places) == 2 and any("r/session" in str(path) for path in places[1].glob("r/session*"))
    assert "request_done" in run.server.log() or "debug" in run.server.log()
    assert in_texts(all_of(run), {"the log": run.server.log().encode()}) == set()
    assert in_files(all_of(run), *places) == set()


def test_other_users_can_not_enter_where_ray_lives(run: Run) -> None:
    (directory,) = run.private_dirs
    assert directory.stat().st_mode & 0o077 == 0
    assert [path.name for path in directory.iterdir() if path.is_dir()] == ["r"]


def test_the_store_has_no_secret_and_prompts_only_in_journals(run: Run) -> None:
    stored = run.stored()
    assert len(stored) > 10_000
    assert in_texts(all_of(run).without(*run.prompts), {"the store": stored}) == set()
    prompts, kept = Secrets.of(run.prompts), dict[str, set[str]]()
    for key in run.store.scan_iter(count=1_000):
        for name in prompts.found_in(run.store.dump(key)):  # type: ignore[arg-type]
            kept.setdefault(name, set()).add(KIND.sub(r"\1", key.decode()))
    assert {kind for kinds in kept.values() for kind in kinds} <= {"j", "s"}
    # A job's text outlives a crash until its work is done. A request of a session is in its caller's hands.
    assert {name.split(", ")[0] for name in kept} <= {"prompt of a job", "prompt of a job without an invoice"}


KIND = re.compile(r"satmeter:\{p\d+\}:(\w+):.*")


def test_no_answer_tells_a_key_and_no_error_a_credential_or_a_prompt(run: Run) -> None:
    statuses = {status for _, status, _ in run.answers}
    assert {200, 201, 400, 401, 402, 404, 413, 502, 503} <= statuses
    for place, status, told in run.answers:
        assert in_texts(Secrets.of({**run.keys, **run.preimages}), {place: told}) == set(), (place, status)
        if status >= 400 and b"www-authenticate" not in told:
            assert in_texts(Secrets.of({**run.macaroons, **run.prompts}), {place: told}) == set(), (place, status)


@pytest.mark.parametrize("plant", ["environment", "command line", "file", "log", "store", "memory", "answer"])
def test_a_secret_that_is_planted_is_found(run: Run, plant: str, tmp_path: Path) -> None:
    """Each search would see what it says that it does not see."""
    name, key = ADMIN, run.keys[ADMIN]
    finds: dict[str, Callable[[], set[str]]] = {
        "environment": lambda: _of_a_process(run, {"X": key}, []),
        "command line": lambda: _of_a_process(run, {}, [f"--key={key}"]),
        "memory": lambda: _of_a_process(run, {}, [], f"x = bytes.fromhex('{key.encode().hex()}')"),
        "file": lambda: _of_a_file(run),
        "log": lambda: in_texts(all_of(run), {"log": run.server.log().encode() + json.dumps({"e": key}).encode()}),
        "store": lambda: _of_the_store(run),
        "answer": lambda: in_texts(Secrets.of(run.keys), {"answer": f'{{"error":"{key}"}}'.encode()}),
    }
    assert {place.partition(" in ")[0] for place in finds[plant]()} == {name}


def _of_a_process(run: Run, environment: dict[str, str], words: list[str], code: str = "") -> set[str]:
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint(flush=True)\ninput()", *words],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        look = in_memory if code else in_processes
        found = look(Secrets.of(run.keys), [process.pid])
        process.stdin.close()
        process.kill()
    return found


def _of_a_file(run: Run) -> set[str]:
    logs = next(iter(run.private_dirs[0].glob("r/session_2*/logs")))
    planted = logs / "planted.out"
    planted.write_bytes(b"\0\1" + run.keys[ADMIN].encode())
    try:
        return in_files(all_of(run), *run.private_dirs)
    finally:
        planted.unlink()


def _of_the_store(run: Run) -> set[str]:
    run.store.set("planted", run.keys[ADMIN])
    found = in_texts(all_of(run).without(*run.prompts), {"store": run.stored()})
    run.store.delete("planted")
    return found
