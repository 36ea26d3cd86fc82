"""Production on real processes: what it refuses is one list, and with everything real it serves."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from tests.helpers.cluster.commands import satmeter
from tests.helpers.cluster.wallets import at_wallet
from tests.helpers.served import MessagesApi, served
from tests.lnbits.server import Lnbits


def test_all_that_production_refuses_is_one_list(data_dir: Path, model: MessagesApi) -> None:
    data_dir.mkdir(parents=True)
    data_dir.chmod(0o777)
    environment = {
        "SATMETER_ENV": "production",
        "SATMETER_DATA_DIR": str(data_dir),
        "SATMETER_LOG_LEVEL": "debug",
        "SATMETER_TRUSTED_PROXIES": "0.0.0.0/1,128.0.0.0/1",
        "SATMETER_WEBHOOK_ALLOW": "::/0",
        "MACAROON_ROOT_KEY": "5a" * 32,
        "OPERATOR_TOKEN": "secret",
        "LNBITS_URL": "http://lnbits.example",
        "LNBITS_INVOICE_KEY": "a",
        "LNBITS_ADMIN_KEY": "b",
        "ANTHROPIC_API_KEY": "c",
        "ANTHROPIC_BASE_URL": "http://models.example",
        "BTC_PRICE_URL": "http://price.example",
        "REDIS_URL": "redis://:password@store.example",
    }
    for command in ("serve", "check"):
        done = satmeter(command, **environment)
        assert done.returncode == 1
        written = [json.loads(line)["hint"] if line.startswith("{") else line for line in done.stderr.splitlines()]
        lines = [line for line in written if not line.startswith(("Asking", "  "))]
        assert sorted(line.partition(":")[0] for line in lines) == [
            "ANTHROPIC_BASE_URL", "BTC_PRICE_URL", "LNBITS_URL", "MACAROON_ROOT_KEY", "OPERATOR_TOKEN", "REDIS_URL",
            "SATMETER_DATA_DIR", "SATMETER_LOG_LEVEL", "SATMETER_RATE_LIMITS", "SATMETER_TRUSTED_PROXIES",
            "SATMETER_WEBHOOK_ALLOW",
        ]  # fmt: skip
        assert "password" not in "".join(lines).replace("Its password", "")
    audited = satmeter("audit", **environment)
    assert audited.returncode == 1 and "REDIS_URL: Its password" in audited.stderr


def test_with_everything_real_it_serves_and_counts_nobody_by_a_proxy_that_is_not_named(
    data_dir: Path, model: MessagesApi, lnbits: Lnbits
) -> None:
    environment = {
        "SATMETER_ENV": "production",
        "SATMETER_RATE_LIMITS": "on",
        "SATMETER_HOSTS": "1",
        "MACAROON_ROOT_KEY": secrets.token_hex(32),
        "OPERATOR_TOKEN": secrets.token_hex(32),
        "ANTHROPIC_API_KEY": "test",
        "ANTHROPIC_BASE_URL": model.url,
        **at_wallet(lnbits, lnbits.new_wallet()),
    }
    with served(data_dir, None, (), (), **environment) as server:
        made = server.client.post("/jobs", json={"request": "x"})
        assert made.status_code == 201, made.text
        for _ in range(3):
            through = server.client.post("/jobs", json={"request": "x"}, headers={"X-Forwarded-For": "203.0.113.5"})
            assert through.status_code == 503 and through.json()["code"] == "unavailable"
        assert server.log().count("proxy_not_trusted") == 1 and "SATMETER_TRUSTED_PROXIES=127.0.0.1" in server.log()
        assert "SATMETER_TRUSTED_PROXIES" in server.client.get("/readyz").json()["warnings"][0]
        shown = server.client.get(f"/jobs/{made.json()['jobId']}", headers={"X-Forwarded-For": "203.0.113.5"})
        assert shown.status_code == 200
    environment["SATMETER_TRUSTED_PROXIES"] = "127.0.0.1"
    with served(data_dir, None, (), (), **environment) as server:
        through = server.client.post("/jobs", json={"request": "x"}, headers={"X-Forwarded-For": "203.0.113.5"})
        assert through.status_code == 201, through.text
