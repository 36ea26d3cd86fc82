"""docs/operate.md, walked from its first line to its last on a machine that the real systemd boots.

The program comes from this checkout, and its libraries from the environment of the tests, as installing them takes
a minute. The node is a real LNbits, the model provider a stand-in on loopback.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.helpers.booted import Booted, machine
from tests.helpers.cluster.wallets import wallet_pays
from tests.helpers.patience import PATIENCE_S
from tests.helpers.proxies import program
from tests.helpers.served import MessagesApi, free_port, patiently
from tests.lnbits.server import Lnbits

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operate.md"
SOURCES = "usr/local/src/satmeter"
# This checkout in the machine, whose /tmp is its own: a checkout may be below it.
CHECKOUT = Path("/usr/local/checkout")
# Parts whose commands a test can't run here, and where they are tried instead.
ELSEWHERE = {
    "1. The machine": "packages and a firewall: the machine of the test shares this one's network",
    "5. Name and TLS": "tests/deploy/test_proxies.py: the files in the real programs",
}
# The program as pipx would make it: a directory for each release, and a command of its name and suffix.
PIPX = """#!/bin/sh
set -eu
for word; do
    case "$word" in --suffix=*) suffix=${{word#--suffix=}} ;; esac
    source=${{word%%\\[*}}
done
home=$PIPX_HOME/venvs/satmeter$suffix
mkdir -p "$home" "$PIPX_BIN_DIR"
# With what Python compiled of it before, which spares each process some seconds, and the release's own number.
cp -rLp {sources} "$home/satmeter"
cp "$source/src/satmeter/__init__.py" "$home/satmeter/"
# What redis wants of a Python older than that of the tests.
echo 'from asyncio import timeout' >"$home/async_timeout.py"
cat >"$PIPX_BIN_DIR/satmeter$suffix" <<END
#!/bin/sh
export PYTHONPATH=$home:{libraries}
exec {python} -m satmeter.scripts.cli "\\$@"
END
chmod 755 "$PIPX_BIN_DIR/satmeter$suffix"
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can boot a machine, and only on Linux"
)


def blocks() -> dict[str, list[str]]:
    """The page's commands, by its parts."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        found[heading] = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found


def _python() -> str:
    """A Python of the libraries' version that other users may run."""
    found = shutil.which(f"python{sys.version_info[0]}.{sys.version_info[1]}", path="/usr/local/bin:/usr/bin")
    if found is None:
        pytest.skip("needs the system's Python in the version of the tests")
    return found


def _copy_of_this_checkout(to: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if not name.startswith(("tests/", "docs/")) and (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name, follow_symlinks=False)


class Walk:
    """The machine, and the page's commands with the values of this test in them."""

    def __init__(self, booted: Booted, lnbits: Lnbits, model: MessagesApi) -> None:
        self.booted = booted
        self.lnbits = lnbits
        self.model = model
        self.wallet = lnbits.new_wallet()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.old_release = ""
        self.done: list[str] = []

    def take(self, heading: str, *numbers: int) -> str:
        """Run a part's commands, or some of its blocks, and return what they print."""
        self.done.append(heading)
        found = blocks()[heading]
        return self.booted.good("\n".join(self.here(found[number]) for number in numbers or range(len(found))))

    def here(self, text: str) -> str:
        values = {
            "$YOUR_ANTHROPIC_KEY": "sk-of-the-operator",
            "$YOUR_INVOICE_KEY": self.wallet.invoice_key,
            "$YOUR_ADMIN_KEY": self.wallet.admin_key,
            "$OLD_RELEASE": self.old_release,
            "LNBITS_URL=http://127.0.0.1:5000": f"LNBITS_URL={self.lnbits.url}",
            "URL=https://satmeter.example": f"URL={self.url}",
            "http://127.0.0.1:8402": self.url,
        }
        for name, value in values.items():
            text = text.replace(name, value)
        return text

    def settle(self) -> None:
        """Set what only a test sets: where its stand-ins are, and a port that is free."""
        self.booted.good(
            f"cat >>/etc/satmeter/satmeter.env <<END\nSATMETER_PORT={self.port}\nSATMETER_HOSTS=1\n"
            f"ANTHROPIC_BASE_URL={self.model.url}\nBTC_PRICE_URL=http://127.0.0.1:9/\nEND\n"
        )

    def until_ready(self) -> None:
        patiently(lambda: self.status("/readyz") == 200, f"it does not come back: {self.log()}")

    def status(self, path: str) -> int:
        try:
            return httpx.get(f"{self.url}{path}", timeout=PATIENCE_S, trust_env=False).status_code
        except httpx.HTTPError:
            return 0

    def log(self) -> str:
        return self.booted.run("journalctl --no-pager -u satmeter -n 40; systemctl status satmeter --no-pager")[1]


@pytest.fixture
def walk(lnbits: Lnbits) -> Iterator[Walk]:
    found, python = program("systemd-nspawn"), _python()
    model = MessagesApi()
    # `satmeter check` asks for the models by name.
    model._app.routes.insert(0, Route("/v1/models/{name}", lambda _request: JSONResponse({})))
    try:
        with machine(found, f"--bind-ro={ROOT}:{CHECKOUT}") as booted:
            _copy_of_this_checkout(booted.root / SOURCES)
            stand_in = booted.root / "usr" / "local" / "bin" / "pipx"
            libraries = Path(site.getsitepackages()[0])
            if libraries.is_relative_to(ROOT):
                libraries = CHECKOUT / libraries.relative_to(ROOT)
            stand_in.write_text(PIPX.format(libraries=libraries, python=python, sources=CHECKOUT / "src" / "satmeter"))
            stand_in.chmod(0o755)
            booted.boot()
            yield Walk(booted, lnbits, model)
    finally:
        model.close()


def test_the_page_leads_from_nothing_to_a_paid_request_and_through_all_that_may_come(walk: Walk) -> None:
    assert "Installed release" in walk.take("2. The program", 0)
    walk.take("3. Keys and settings", 0, 1)
    walk.settle()
    checked = walk.take("3. Keys and settings", 2)
    assert "Nothing is wrong: this can run in production." in checked
    walk.take("4. The server")
    session = _first_paid_request(walk)
    _comes_back_after_a_power_cut(walk, session)
    _upgrades_and_goes_back(walk)
    copy = walk.take("Backup").strip().splitlines()[-1]
    assert copy.startswith("/var/backups/satmeter/satmeter-")
    _restores(walk, session)
    assert set(walk.done) | set(ELSEWHERE) == {heading for heading, found in blocks().items() if found}


def _first_paid_request(walk: Walk) -> dict[str, Any]:
    invoice = walk.take("6. The first paid request", 0).strip()
    wallet_pays(walk.lnbits, {"paymentRequest": invoice})
    session: dict[str, Any] = json.loads(walk.booted.good("cat session.json"))
    holder = {"Authorization": f"Bearer {session['macaroon']}"}
    path = f"{walk.url}/sessions/{session['sessionId']}"
    session |= {"holder": holder, "path": path}
    patiently(lambda: _show(session)["state"] == "active", "the deposit does not arrive")
    field = re.search(r"^field\(\).*$", "\n".join(blocks()["6. The first paid request"]), re.MULTILINE)
    assert field is not None
    answer = walk.booted.good(f"URL={walk.url}\n{field[0]}\n{walk.here(blocks()['6. The first paid request'][1])}")
    assert "sextant" in json.loads(answer)["content"][0]["text"]
    audited = walk.take("6. The first paid request", 2)
    assert "The books close" in audited
    return session


def _show(session: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(
        session["path"], headers=session["holder"], timeout=PATIENCE_S, trust_env=False
    ).json()
    return found


def _comes_back_after_a_power_cut(walk: Walk, session: dict[str, Any]) -> None:
    before = _show(session)
    assert before["spentMsat"] > 0
    walk.booted.cut_power()
    walk.booted.boot()
    walk.until_ready()
    assert _show(session) == before
    # The dead server's sockets and Ray's sessions were in a directory of its unit's own.
    assert walk.booted.good("ls -d /tmp/satmeter-* 2>/dev/null || true") == ""


def _upgrades_and_goes_back(walk: Walk) -> None:
    walk.old_release = walk.booted.good("readlink /usr/local/bin/satmeter").strip()
    walk.booted.good("sed -i 's/0.1.0/0.1.1/' /usr/local/src/satmeter/src/satmeter/__init__.py")
    # Another release has another name: by git's, or by the time.
    assert walk.old_release in walk.take("Upgrade and rollback", 0)
    walk.until_ready()
    assert walk.booted.good("satmeter version").strip() == "0.1.1"
    assert walk.booted.good("readlink /usr/local/bin/satmeter").strip() != walk.old_release
    walk.take("Upgrade and rollback", 1)
    walk.until_ready()
    assert walk.booted.good("satmeter version").strip() == "0.1.0"


def _restores(walk: Walk, session: dict[str, Any]) -> None:
    before = _show(session)
    assert "The books close" in walk.take("Restore", 0)
    # Up to here the copy is not older than what the server remembers, if it was idle since; it may be by a mark.
    walk.take("Restore", 1)
    walk.until_ready()
    assert _show(session) == before
    assert walk.booted.run("ls /run/systemd/system/satmeter.service.d")[1].strip() == ""
