"""Processes for one actor each, on a Ray of their own: whose they are when two hosts have had one for an actor."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from tests.helpers.patience import PROGRAM_S

_HOSTS = """
import asyncio, shutil, sys
from pathlib import Path
from satmeter.config.ray_environment import prepare_ray
prepare_ray(None)
from satmeter.actors import cluster
from satmeter.actors.adapters.redis.client import connect
from satmeter.actors.adapters.redis.journal import RedisJournal
from satmeter.actors.partitioning import partition_of
from satmeter.config.private_dir import make_private_dir
from satmeter.config.settings import Settings
from satmeter.scripts.server.secret_server import SecretServer

ACTOR = "ses_0123456789abcdefghijklmnopqrstuv"

async def main(settings):
    directory, secrets = make_private_dir(), SecretServer(settings)
    await secrets.open(directory, cluster.this_node())
    journal = RedisJournal(connect(settings.redis_url), lambda actor_id, stored: 0)
    partition = partition_of(ACTOR)
    former, present = cluster.RayProcessLauncher(settings), cluster.RayProcessLauncher(settings)
    epoch = (await journal.claim([partition], "host-0"))[partition]
    await former.start(ACTOR, partition, epoch)
    epoch = (await journal.claim([partition], "host-1"))[partition]
    process = await present.start(ACTOR, partition, epoch)
    print("started:", await process.occupied())
    await former.end(ACTOR)
    print("the former host has ended its own:", await process.occupied())
    await present.end(ACTOR)
    try:
        await process.occupied()
    except cluster.LinkError:
        print("ended")
    await journal.close()
    secrets.close()
    shutil.rmtree(directory)

cluster.start_local(Path(sys.argv[1]), 2, "launcher")
asyncio.run(main(Settings(redis_url=sys.argv[2], macaroon_root_key="00" * 32)))
cluster.leave()
"""


def test_a_host_ends_the_process_that_it_has_started_and_not_its_successors(store_url: str) -> None:
    """One that stood still, and learns only then that it has lost the actor."""
    # Not pytest's tmp_path: a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="sm-") as ray_dir:
        run = subprocess.run(
            [sys.executable, "-c", _HOSTS, ray_dir, store_url],
            env=dict(os.environ), capture_output=True, text=True, timeout=PROGRAM_S, check=False,
        )  # fmt: skip
    told = [line for line in run.stdout.splitlines() if "pid=" not in line]
    assert told == ["started: None", "the former host has ended its own: None", "ended"], run.stdout + run.stderr
