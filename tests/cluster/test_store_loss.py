"""A store that comes back older or empty, as the operator of `satmeter serve` meets it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.helpers.cluster.jobs import create, job, pay, wait_for
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import Served, served


def copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    # A killed store leaves its socket behind.
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sock"))


def refused(data_dir: Path, words: str) -> None:
    server = Served(data_dir, {"SATMETER_HOSTS": "1"})
    assert server.process.wait(PATIENCE_S) == 1
    assert words in server.log() and "--accept-loss" in server.log()
    server.close()


def test_a_lost_or_older_store_is_refused_until_the_operator_accepts_it(data_dir: Path) -> None:
    store, backup, newest = data_dir / "store", data_dir.parent / "backup", data_dir.parent / "newest"
    with served(data_dir, SATMETER_HOSTS="1") as server:
        created = create(server)
    copy(store, backup)
    with served(data_dir, SATMETER_HOSTS="1") as server:
        pay(server, created["evalInvoice"])
        waiting = wait_for(server, created["jobId"], "awaiting_work_payment")
        server.process.kill()
    shutil.move(store, newest)
    refused(data_dir, "The store is empty")
    copy(backup, store)
    refused(data_dir, "The store is older than what it confirmed")
    # The newest copy is taken without a word.
    copy(newest, store)
    with served(data_dir, SATMETER_HOSTS="1") as server:
        assert job(server, created["jobId"]) == waiting
    copy(backup, store)
    with served(data_dir, words=("--accept-loss",), SATMETER_HOSTS="1") as server:
        assert "It is taken as it is." in server.log()
        assert job(server, created["jobId"])["state"] == "awaiting_eval_payment"
