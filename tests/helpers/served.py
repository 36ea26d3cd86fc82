"""A real `satmeter serve` in processes of its own, and a Messages API on loopback that a test can hold up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from satmeter.actors.adapters.stub.messages_api import StubMessagesApi
from satmeter.scripts.processes import all_processes, descendants
from tests.helpers.custody import ending_with_us
from tests.helpers.patience import PATIENCE_S

START_WITHIN_S = 2 * PATIENCE_S
# What a test server never does: ask the real price source, or limit its own tests.
ENVIRONMENT = {"BTC_PRICE_URL": "http://127.0.0.1:9/", "SATMETER_RATE_LIMITS": "off", "SATMETER_LOG_LEVEL": "warning"}

_REFUSAL = b'{"type": "error", "error": {"type": "invalid_request_error", "message": "messages: too many cooks"}}'


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Any, timeout_s: float, what: str) -> None:
    """Returns once the condition, of other processes, holds. Raises `TimeoutError`, not before `PATIENCE_S`."""
    never, pause_s = threading.Event(), 0.02
    deadline_s = time.monotonic() + max(timeout_s, PATIENCE_S)
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(what)
        never.wait(pause_s)
        # To list processes takes 30 ms of a core that the servers under test need.
        pause_s = min(pause_s * 1.3, 0.25)


def patiently(condition: Any, what: str) -> None:
    """Returns once the condition, of other processes, holds. Raises `TimeoutError` after `PATIENCE_S`."""
    wait_until(condition, PATIENCE_S, what)


class Served:
    """A running server. `within`: the words before its command, of a program that runs it in its own place.

    words: what its command gets besides.
    """

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str],
        port: int | None = None,
        within: Sequence[str] = (),
        words: Sequence[str] = (),
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = data_dir
        self._log = (data_dir.parent / f"{data_dir.name}.log").open("ab")
        self._log_begin = os.fstat(self._log.fileno()).st_size
        ours = ("SATMETER_", "LNBITS_", "ANTHROPIC_", "RAY_", "REDIS_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        command = str(Path(sys.executable).with_name("satmeter"))
        self.process = subprocess.Popen(
            ending_with_us([*within, command, "serve", "--port", str(self.port), "--data-dir", str(data_dir), *words]),
            env={**clean, **ENVIRONMENT, **environment},
            stderr=self._log,
            start_new_session=True,
        )
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S, trust_env=False)
        self.tree: set[int] = set()

    def wait_until_ready(self) -> None:
        """Returns once it serves."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.log()[-2_000:]}")
            if "Satmeter serves at" not in self.log():
                return False  # On the same port, a front of a server that was just killed may still answer.
            try:
                return self.client.get("/readyz").status_code == 200
            except httpx.HTTPError:
                return False

        try:
            wait_until(ready, START_WITHIN_S, "the server did not become ready")
        except TimeoutError:
            raise RuntimeError(f"not ready: {self.log()[-2_000:]}") from None
        self.descendants()

    def log(self) -> str:
        """Return the server's output, without that of earlier servers on the same data."""
        return Path(self._log.name).read_bytes()[self._log_begin :].decode(errors="replace")

    def descendants(self, name: str = "") -> list[int]:
        """Its processes whose command line contains the name."""
        found = descendants(self.process.pid)
        self.tree |= {self.process.pid, *found}
        return [pid for pid, process in found.items() if name in process.command]

    def kill(self, name: str) -> list[int]:
        """SIGKILL to all of its processes with this name; returns their pids."""
        victims = self.descendants(name)
        assert victims, f"no process {name}"
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        return victims

    @contextmanager
    def paused(self, pid: int) -> Iterator[None]:
        """One of its processes stands still while the block runs; it may be replaced and ended meanwhile."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def stop(self, signum: int = signal.SIGTERM, timeout_s: float = PATIENCE_S) -> float:
        """Ends it; returns how long that took."""
        self.descendants()
        started_s = time.monotonic()
        self.process.send_signal(signum)
        self.process.wait(timeout_s)
        return time.monotonic() - started_s

    def close(self) -> None:
        """Ends it if it still runs, and lets go of what belongs to it."""
        if self.process.poll() is None:
            self.stop()
        self.client.close()
        self._log.close()

    def left_over(self) -> list[str]:
        """Command lines of processes that it ever had and that still live."""
        table = all_processes()
        return [table[pid].command for pid in self.tree if pid in table]


@contextmanager
def served(
    data_dir: Path,
    port: int | None = None,
    within: Sequence[str] = (),
    words: Sequence[str] = (),
    **environment: str,
) -> Iterator[Served]:
    """A server that is ready, and is ended at the end."""
    server = Served(data_dir, environment, port, within, words)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.close()


class MessagesApi:
    """The stub Messages API as a real server on loopback, whose answers a test can hold back.

    `calls_cut` counts the calls whose client went away while they were held back, `streams_cut` the streamed answers
    whose client did before their end. With `refuses` it takes no body. Counts of prompts pass beside what is held back.
    """

    def __init__(self) -> None:
        self._stub = StubMessagesApi()
        self._let_go = threading.Event()
        self._let_go.set()
        self._let_streams_go = threading.Event()
        self._let_streams_go.set()
        self._holds_after = 0
        self.requests = 0
        self.streams_cut = 0
        self.calls_cut = 0
        self.refuses = False
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["POST"])])
        self.come_back()

    def come_back(self) -> None:
        """Listens again after it has gone away."""
        self._server = uvicorn.Server(uvicorn.Config(self._app, port=self.port, log_config=None))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    def go_away(self) -> None:
        """Closes its connections, and the port."""
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)

    def hold(self) -> None:
        """Requests from now on get no answer until `let_go`."""
        self._let_go.clear()

    def hold_stream(self, after_events: int) -> None:
        """Streamed answers from now on stop after so many events until `let_go`."""
        self._holds_after = after_events
        self._let_streams_go.clear()

    def let_go(self) -> None:
        """Answers all."""
        self._let_go.set()
        self._let_streams_go.set()

    def wait_for_request(self, number: int) -> None:
        """Returns once so many requests have come in all."""
        patiently(lambda: self.requests >= number, f"request {number} to the model")

    def close(self) -> None:
        """Ends the server."""
        self.let_go()
        self.go_away()

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        self.requests += 1
        while not (self._let_go.is_set() or request.url.path.endswith("/count_tokens")):
            if await request.is_disconnected():
                self.calls_cut += 1
                return Response(status_code=499)
            await asyncio.to_thread(self._let_go.wait, 0.05)
        if self.refuses:
            return Response(_REFUSAL, 400, media_type="application/json")
        asked = httpx2.Request("POST", f"https://stub{request.url.path}", content=body, headers=dict(request.headers))
        answer = await self._stub.handle_async_request(asked)
        if answer.headers["content-type"] == "text/event-stream":
            return StreamingResponse(self._events(answer), media_type="text/event-stream")
        return Response(await answer.aread(), answer.status_code, media_type="application/json")

    async def _events(self, answer: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """The stub's events as they come; held back after so many, if they are to be."""
        sent, cut = 0, True
        try:
            async for event in answer.aiter_raw():
                while not self._let_streams_go.is_set() and sent >= self._holds_after:
                    await asyncio.to_thread(self._let_streams_go.wait, 0.05)
                sent += 1
                yield event
            cut = False
        finally:
            self.streams_cut += cut
