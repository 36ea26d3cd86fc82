"""Clients that others generate from /openapi.json: they must come out, compile, and run a job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.helpers import installed
from tests.helpers.patience import PROGRAM_S
from tests.helpers.readme import snippet
from tests.helpers.served import Served

_TYPESCRIPT: Final = Path(__file__).with_name("typescript")

# What a user of the generated client writes.
_JOB: Final = """
import sys, time
from satmeter_client import Client
from satmeter_client.api.development import pay_stub_invoice
from satmeter_client.api.jobs import create_job, get_job
from satmeter_client.models import JobCreated, JobStatus, NewJob

client = Client(base_url=sys.argv[1])
created = create_job.sync(client=client, body=NewJob(request="Name three uses of a sextant."), idempotency_key="k")
assert isinstance(created, JobCreated), created
pay_stub_invoice.sync(payment_hash=created.eval_invoice.payment_hash, client=client)

def when(state):
    for _ in range(1_000):
        job = get_job.sync(job_id=created.job_id, client=client)
        assert isinstance(job, JobStatus), job
        if job.state == state:
            return job
        time.sleep(0.05)
    raise SystemExit(f"it is still {job.state}")

job = when("awaiting_work_payment")
pay_stub_invoice.sync(payment_hash=job.work_invoice.payment_hash, client=client)
done = when("complete")
assert done.cost_ledger.total_tokens > 0 and done.pricing_breakdown.amount_sats == job.work_invoice.amount_sats
print(done.result)
"""


def _run(*words: str, cwd: Path, timeout_s: float = PROGRAM_S) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout[-3_000:]}{done.stderr[-3_000:]}"
    return done.stdout + done.stderr


@pytest.fixture
def document(server: Served, tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    file.write_bytes(server.client.get("/openapi.json").content)
    return file


def test_openapi_python_client_makes_a_client_that_runs_a_job(server: Served, document: Path, tmp_path: Path) -> None:
    command = str(Path(sys.executable).with_name("openapi-python-client"))
    config = tmp_path / "config.json"
    # Its own hooks format the code with ruff, which would look for a project's settings.
    config.write_text(json.dumps({"post_hooks": [], "package_name_override": "satmeter_client"}))
    words = ["generate", "--path", str(document), "--config", str(config), "--output-path", str(tmp_path / "made")]
    said = _run(command, *words, "--meta", "none", cwd=tmp_path)
    # A picture is the one kind of answer that it has no code for.
    assert said.count("WARNING") == said.count("Unsupported content_type image/svg+xml") and "Unable" not in said, said
    (tmp_path / "made").rename(tmp_path / "satmeter_client")
    assert "sextant" in _run(sys.executable, "-c", _JOB, server.url, cwd=tmp_path)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """A folder with the packages of the lock file, installed once for each of its versions."""
    try:
        return installed.node_modules(_TYPESCRIPT, "ts")
    except installed.NotInstalledError as error:
        pytest.fail(f"The TypeScript check needs its packages: {error}.", pytrace=False)


def test_the_readme_s_typescript_compiles_against_the_document_and_runs(
    server: Served, document: Path, node_modules: Path, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(node_modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    _run("node", "node_modules/openapi-typescript/bin/cli.js", str(document), "-o", "satmeter.d.ts", cwd=tmp_path)
    (tmp_path / "job.ts").write_text(snippet("TypeScript", "ts").replace("http://127.0.0.1:8402", server.url))
    strict = ["--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext"]
    _run("node", "node_modules/typescript/bin/tsc", *strict, "--lib", "es2022,dom", "job.ts", cwd=tmp_path)
    assert "lnbcrt" in _run("node", "job.js", cwd=tmp_path)


def test_code_that_does_not_fit_the_document_does_not_compile(
    document: Path, node_modules: Path, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(node_modules)
    _run("node", "node_modules/openapi-typescript/bin/cli.js", str(document), "-o", "satmeter.d.ts", cwd=tmp_path)
    (tmp_path / "wrong.ts").write_text(snippet("TypeScript", "ts").replace("{ request:", "{ question:"))
    words = ["node", "node_modules/typescript/bin/tsc", "--strict", "--module", "nodenext", "wrong.ts"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert done.returncode != 0 and "question" in done.stdout


def test_the_lock_names_hashes_and_no_registry() -> None:
    packages = json.loads((_TYPESCRIPT / "package-lock.json").read_text())["packages"]
    pinned = [package for name, package in packages.items() if name]
    assert pinned and all(package["integrity"].startswith("sha512-") for package in pinned)
    assert not any("resolved" in package for package in pinned)
