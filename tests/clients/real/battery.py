"""One server with a scripted model behind it, keys for it, and the run of a client's driver against it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.helpers.installed import NotInstalledError, node_modules, python_with
from tests.helpers.scripted_messages import ScriptedMessages, scripted_messages
from tests.helpers.served import Served, patiently, served

from .catalogue import HERE, Client

_DRIVERS: Final = HERE / "drivers"
# What the page shows to paste.
_PROGRAMS: Final = HERE.parents[2] / "http" / "pages" / "static" / "programs.js"
_SPEND: Final = {
    "model": "claude-haiku-5-5",
    "max_tokens": 30_000,
    "messages": [{"role": "user", "content": "[[spend]]"}],
}
# A port of this machine that refuses: what a client would send elsewhere ends here, at once.
_NOWHERE: Final = "http://127.0.0.1:9"


@dataclass(frozen=True)
class World:
    """Server that drivers are told of: its address, a key with a balance, and one whose balance is used up."""

    server: Served
    upstream: ScriptedMessages
    key: str
    empty_key: str


@dataclass
class Row:
    """Outcome of one way to use a client: for each case `ok`, or what was wrong."""

    client: Client
    way: str
    results: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Tell whether each case came out well."""
        return all(self.results.get(case) == "ok" for case in self.client.cases)


@contextmanager
def world() -> Iterator[World]:
    """Serve while the block runs."""
    with (
        tempfile.TemporaryDirectory(prefix="sm-") as directory,
        scripted_messages() as upstream,
        served(
            Path(directory) / "data",
            SATMETER_HOSTS="1",
            SATMETER_BODY_LIMIT_BYTES="33554432",
            ANTHROPIC_API_KEY="sk-test",
            ANTHROPIC_BASE_URL=upstream.url,
        ) as server,
    ):
        yield World(server, upstream, _session(server, 100_000), _used_up(server))


def _session(server: Served, sats: int) -> str:
    """Open a session, pay its deposit, and return its macaroon."""
    opened = server.client.post("/sessions", json={"amountSats": sats}).raise_for_status().json()
    paid = server.client.post(f"/dev/stub/pay/{opened['depositInvoice']['paymentHash']}")
    assert paid.status_code == 200, paid.text
    headers = {"authorization": f"Bearer {opened['macaroon']}"}
    path = f"/sessions/{opened['sessionId']}"
    patiently(lambda: server.client.get(path, headers=headers).json().get("balanceMsat", 0) > 0, "the deposit arrives")
    return str(opened["macaroon"])


def _used_up(server: Served) -> str:
    """Return the macaroon of a session whose balance is too small for a word of the cheapest model."""
    key = _session(server, 100)
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    for _ in range(50):
        if server.client.post("/v1/messages", json=_SPEND, headers=headers).status_code == 402:
            return key
    raise AssertionError("the balance of a session is not used up")


def run(client: Client, world: World, say: Callable[[str], None]) -> list[Row]:
    """Install a client, run its driver once for each way, and return what came of it."""
    rows = [Row(client, way) for way in client.ways]
    say(f"{client.name} {client.version}: installing")
    try:
        python = python_with(client.locked / "requirements.txt", client.name) if client.is_python else sys.executable
        modules = None if client.is_python else node_modules(client.locked, client.name)
    except NotInstalledError as error:
        for row in rows:
            row.results = dict.fromkeys(client.cases, f"not run: {error}")
            say(f"{client.name}, {row.way}: not run: {error}")
        return rows
    for row in rows:
        refused = len(world.upstream.refusals)
        _drive(row, python, modules, world, say)
        if (said := world.upstream.refusals[refused:]) and row.passed:
            row.results[client.cases[0]] = f"the provider refused what was passed on: {said[0]}"
    return rows


def _drive(row: Row, python: str, modules: Path | None, world: World, say: Callable[[str], None]) -> None:
    client = row.client
    with tempfile.TemporaryDirectory(prefix="sm-client-") as directory:
        folder = Path(directory)
        shutil.copytree(_DRIVERS, folder / "drivers")
        (folder / "home").mkdir()
        if modules is not None:
            (folder / "node_modules").symlink_to(modules)
        program = "node" if client.driver.endswith(".mjs") else python
        process = subprocess.Popen(
            [program, str(folder / "drivers" / client.driver), row.way, *client.cases],
            cwd=folder,
            env=_environment(world, folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(errors := (folder / "stderr").open("w+")),
            text=True,
            start_new_session=True,
        )
        late = threading.Timer(client.within_s, _end, [process])
        late.start()
        assert process.stdout is not None
        with process, errors:
            for line in process.stdout:
                _note(row, line, say)
            process.wait()
            late.cancel()
            _end(process)  # What a client leaves running goes, too.
            errors.seek(0)
            last = (errors.read().strip().splitlines() or [f"it ended with {process.returncode}"])[-1]
    for case in client.cases:
        if case not in row.results:
            row.results[case] = f"no result: {last[:300]}"
            say(f"{client.name}, {row.way}: {case} has no result: {last[:300]}")


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _note(row: Row, line: str, say: Callable[[str], None]) -> None:
    try:
        found = json.loads(line)
        case, result = found["case"], found["result"]
    except (ValueError, TypeError, KeyError):
        return  # Some clients print words of their own.
    row.results[case] = result
    say(f"{row.client.name}, {row.way}: {case} {result}")


def _environment(world: World, folder: Path) -> Mapping[str, str]:
    """Return the environment of a driver: nothing of the user's own, and no way to other machines."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "LC_ALL", "TERM"}}
    proxies: dict[str, Any] = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _NOWHERE)
    return {
        **kept,
        **proxies,
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder),
        "SERVER": world.server.url,
        "KEY": world.key,
        "EMPTY_KEY": world.empty_key,
        "BAD_KEY": "not-a-macaroon",
        "PROGRAMS": str(_PROGRAMS),
        "SATMETER": str(Path(sys.executable).with_name("satmeter")),
    }
