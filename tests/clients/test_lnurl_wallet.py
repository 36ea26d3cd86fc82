"""A wallet of npm's over LNURL: it scans the link of a job's refund or a session's rest, and takes the money."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from tests.helpers import installed
from tests.helpers.hosts import until
from tests.helpers.http.fronts import api_over, listening_publicly
from tests.helpers.jobs import START_MS
from tests.helpers.lnurl_servers import invoice_of
from tests.helpers.patience import PATIENCE_S, PROGRAM_S

_WALLET = Path(__file__).with_name("lnurl")


@pytest.fixture
def wallet(tmp_path: Path) -> Path:
    """A folder with the wallet's program and its library."""
    try:
        modules = installed.node_modules(_WALLET, "lnurl")
    except installed.NotInstalledError as error:
        pytest.fail(f"{error}; install it.", pytrace=False)
    (tmp_path / "node_modules").symlink_to(modules)
    shutil.copy(_WALLET / "wallet.mjs", tmp_path)
    return tmp_path


async def scanned(wallet: Path, link: str, invoice: str) -> Any:
    """The offer that the wallet found behind the link, and the answer to its invoice."""
    words = ["node", "wallet.mjs", link, invoice]
    process = await asyncio.create_subprocess_exec(*words, cwd=wallet, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(PROGRAM_S):
        said, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(said)


async def test_it_takes_the_rest_of_a_session_by_the_code_and_by_the_link(redis: Redis, wallet: Path) -> None:
    async with (
        api_over(redis) as api,
        listening_publicly(api.state) as server,
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S, trust_env=False) as client,
    ):
        made = (await client.post("/sessions", json={"amountSats": 1_000})).json()
        await api.pay(made["depositInvoice"])
        path, headers = f"/sessions/{made['sessionId']}", {"Authorization": f"Bearer {made['macaroon']}"}
        link = (await client.post(f"{path}/withdraw", headers=headers)).json()["refund"]["withdraw"]

        async def paid_msat() -> int:
            return int((await client.get(path, headers=headers)).json()["refund"]["paidMsat"])

        taken = 0
        for text, sats in ((link["lnurl"], 990), (link["link"].removeprefix("lightning:").lower(), 8)):
            invoice = invoice_of(sats * 1_000, at_s=START_MS // 1_000, expiry_s=100_000_000)
            found = await scanned(wallet, text, invoice)
            params = found["params"]
            assert (params["tag"], params["minWithdrawable"], params["maxWithdrawable"]) == (
                "withdrawRequest",
                1_000,
                sats * 1_000,
            )
            assert params["domain"].startswith("127.0.0.1") and found["answer"] == {"status": "OK"}
            taken += sats * 1_000

            async def arrived(all_msat: int = taken) -> bool:
                return await paid_msat() == all_msat

            await until(arrived)
        nothing = await scanned(wallet, link["lnurl"], "")
        assert nothing["params"]["maxWithdrawable"] == 0 and nothing["answer"] is None
