"""A real LNbits on 127.0.0.1, with its FakeWallet as the node, a wallet that is paid and one that pays.

Payments between two of its wallets are settled inside LNbits, the way it settles them with any node behind it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S
from tests.lnbits.install import installed

_READY_POLLS: Final = 600
_POLL_S: Final = 0.1
_STOPS_WITHIN_S: Final = 5
_FUNDS_SATS: Final = 1_000_000
_FAKE_NODE: Final[Mapping[str, str]] = {"LNBITS_BACKEND_WALLET_CLASS": "FakeWallet", "FAKE_WALLET_SECRET": "satmeter"}
_LAUNCH: Final = Path(__file__).with_name("launch.py")


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet's keys: the invoice key asks and makes invoices, the admin key spends too."""

    invoice_key: str
    admin_key: str


@dataclass(frozen=True, slots=True)
class Lnbits:
    """A running LNbits. `payee` is empty at the start of the session, `payer` has money."""

    url: str
    payee: Wallet
    payer: Wallet
    process: LnbitsProcess

    def new_wallet(self) -> Wallet:
        """One more wallet, which is empty."""
        with httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False) as client:
            return _new_wallet(client, "another")


class LnbitsProcess:
    """LNbits as a process, which may be killed and started again over the same data, at the same port."""

    def __init__(self, python: Path, data: Path, node: Mapping[str, str]) -> None:
        self._python = python
        self._data = data
        self._environment = {**_environment(data), **node}
        self.database = data / "database.sqlite3"
        self.port = 0
        self._launch()

    def start(self) -> None:
        """Starts it again, and returns once it answers."""
        self._launch()
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_S, trust_env=False) as client:
            self.wait_until_ready(client)

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """Ends the process group that was started, and nothing else."""
        process = self._process
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOPS_WITHIN_S)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def wait_until_ready(self, client: httpx.Client) -> None:
        """Returns once it answers. Raises `AssertionError` with the end of its log when it doesn't."""
        for _ in range(_READY_POLLS):
            with contextlib.suppress(httpx.TransportError):
                if client.get("/api/v1/health").status_code < 400:
                    return
            try:
                self._process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"LNbits did not get ready:\n{self._tail()}")

    def _launch(self) -> None:
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ending_with_us([str(self._python), str(_LAUNCH), str(self.port)]),
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # a process group of its own, which can be ended as a whole
            )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self.stop()
            raise AssertionError(f"LNbits did not start:\n{self._tail()}")
        self.port = int(port)

    def _tail(self) -> str:
        return (self._data / "log").read_text(errors="replace")[-3_000:]


@contextlib.contextmanager
def running_lnbits(node: Mapping[str, str] = _FAKE_NODE) -> Iterator[Lnbits]:
    """Starts an LNbits with an empty database, and stops it at the end. Raises `InstallError`, `AssertionError`.

    `node`: the variables of the node behind it, a "funding source" of its own.
    """
    python = installed()
    with tempfile.TemporaryDirectory(prefix="sm-lnbits-") as folder:
        process = LnbitsProcess(python, Path(folder), node)
        try:
            url = f"http://127.0.0.1:{process.port}"
            with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
                process.wait_until_ready(client)
                payee, payer = _make_wallets(client)
            yield Lnbits(url, payee, payer, process)
        finally:
            process.stop()


def _environment(data: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    own = {
        "AUTH_SECRET_KEY": secrets.token_hex(32),
        "LNBITS_DATA_FOLDER": str(data),
        "LNBITS_EXTENSIONS_PATH": str(data),
        # The superuser, who funds the payer, exists only with it.
        "LNBITS_ADMIN_UI": "true",
        "LNBITS_ALLOW_NEW_ACCOUNTS": "true",
        # By default 200 requests a minute are let through.
        "LNBITS_RATE_LIMIT_NO": "100000",
        "LNBITS_RATE_LIMIT_UNIT": "second",
        # By default webhooks to 127.0.0.1 are refused.
        "LNBITS_CALLBACK_ALLOW_PRIVATE_IPS": "true",
        "LNBITS_CALLBACK_URL_RULES": "[]",
        "LNBITS_ALLOW_CUSTOM_WALLET_LIGHTNING_ADDRESSES": "true",
        # By default a wallet scans no code of a server on 127.0.0.1.
        "LNBITS_LNURL_ALLOW_PRIVATE_IPS": "true",
        # Nothing here may reach out to the network.
        "LNBITS_EXTENSIONS_MANIFESTS": "[]",
        "LNBITS_WASM_EXTENSIONS_MANIFESTS": "[]",
        "LNBITS_EXCHANGE_RATE_PROVIDERS": "[]",
        "LNBITS_PRICE_AGGREGATOR_ENABLED": "false",
        "LNBITS_NOTIFICATION_SERVER_START_STOP": "false",
        "LNBITS_AUDIT_ENABLED": "false",
        "ENABLE_LOG_TO_FILE": "false",
        "PYTHONUNBUFFERED": "1",
    }
    return {**kept, **own}


def _make_wallets(client: httpx.Client) -> tuple[Wallet, Wallet]:
    """Sets LNbits up, and makes the payee's and the payer's wallets."""
    password = secrets.token_urlsafe(12)
    names = {"username": "superuser", "password": password, "password_repeat": password}
    token = _call(client, "PUT", "/api/v1/auth/first_install", names)["access_token"]
    payee = _new_wallet(client, "payee")
    payer = _call(client, "POST", "/api/v1/account", {"name": "payer"})
    client.cookies.clear()
    funds = {"id": payer["id"], "amount": _FUNDS_SATS}
    _call(client, "PUT", "/users/api/v1/balance", funds, {"Authorization": f"Bearer {token}"})
    return payee, Wallet(payer["inkey"], payer["adminkey"])


def _new_wallet(client: httpx.Client, name: str) -> Wallet:
    made = _call(client, "POST", "/api/v1/account", {"name": name})
    client.cookies.clear()
    return Wallet(made["inkey"], made["adminkey"])


def _call(
    client: httpx.Client, method: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> Any:
    response = client.request(method, path, json=body, headers=headers)
    assert response.is_success, f"LNbits answered {response.status_code} to {path}: {response.text[:500]}"
    return response.json()
