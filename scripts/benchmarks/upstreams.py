"""Servers around a relayed call, for `scripts/bench`: its upstream, and what else relays calls to it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from .provider import ANSWER, MODEL
from .servers import BenchError, Child, free_port, running, served_by

_NGINX: Final = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  default_type application/json;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 100000000;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ return 200 '{answer}'; }}
  }}
}}
"""
_LITELLM: Final = """
model_list:
  - model_name: {model}
    litellm_params:
      model: anthropic/{model}
      api_base: http://127.0.0.1:{port}
      api_key: none
"""
BODY: Final[dict[str, Any]] = {
    "model": MODEL,
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Name three uses of a sextant."}],
}
"""Body of a call."""
PATH: Final = "/v1/messages"


@asynccontextmanager
async def nginx(directory: Path) -> AsyncIterator[Child]:
    """Run an nginx that answers each call at once. Raises `BenchError` without one."""
    command = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if command is None:
        raise BenchError("this part needs nginx, as the upstream that costs least: install it")
    port = free_port()
    text = _NGINX.format(directory=directory, port=port, answer=ANSWER.decode())
    config = await asyncio.to_thread(_written, directory, text)
    words = [command, "-p", str(directory), "-e", "stderr", "-c", str(config)]
    async with running(Child("nginx", words, port, directory, {}), "/") as child:
        yield child


def _written(directory: Path, config: str) -> Path:
    directory.mkdir()
    path = directory / "nginx.conf"
    path.write_text(config)
    return path


@asynccontextmanager
async def provider(directory: Path, wait_s: float = 0.0) -> AsyncIterator[Child]:
    """Run a provider that streams events, and answers whole calls after this wait."""
    port = free_port()
    words = [sys.executable, "-m", "satmeter.scripts.benchmarks.provider", str(port), str(wait_s)]
    async with running(Child("the provider", words, port, directory, {}), "/") as child:
        yield child


@asynccontextmanager
async def relaying(directory: Path, upstream: Child, satmeter: Path | None = None) -> AsyncIterator[Child]:
    """Run a server whose model provider is the upstream. `satmeter`: the command of another version."""
    settings = {
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{upstream.port}",
        "SATMETER_PASSIVATE_AFTER_S": 3_600,
    }
    async with served_by(satmeter or Path(sys.executable).with_name("satmeter"), directory, **settings) as child:
        yield child


@asynccontextmanager
async def litellm(directory: Path, upstream: Child, command: Path, key: str) -> AsyncIterator[Child]:
    """Run LiteLLM's proxy before the upstream. It does not start without a key, which its clients must send."""
    port = free_port()
    config = directory.with_suffix(".yaml")
    config.write_text(_LITELLM.format(model=MODEL, port=upstream.port))
    words = [str(command), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    # Its list of prices is not asked for on the internet.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*", "LITELLM_MASTER_KEY": key}
    async with running(Child("LiteLLM", words, port, directory, environment), "/health/liveliness") as child:
        yield child
