"""The files of deploy/single for nginx and Caddy, run by the real programs on loopback before a server under test."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.helpers.custody import ending_with_us
from tests.helpers.http.certificates import contexts
from tests.helpers.patience import PATIENCE_S
from tests.helpers.served import free_port, patiently

SINGLE: Final = Path(__file__).parents[2] / "deploy" / "single"
NAME: Final = "satmeter.example"
_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_NGINX: Final = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/errors;
events {{}}
http {{
    access_log {directory}/accesses;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/answers;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    include {directory}/site;
}}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy with TLS: its address, and what a client of it trusts."""

    name: str
    port: int
    trust: ssl.SSLContext
    directory: Path

    @property
    def url(self) -> str:
        """The address by its number, for which its certificate is."""
        return f"https://127.0.0.1:{self.port}"

    def client(self, address: str = "127.0.0.1", headers: Mapping[str, str] | None = None) -> httpx.Client:
        """A client that comes from this address of loopback."""
        transport = httpx.HTTPTransport(verify=self.trust, local_address=address)
        return httpx.Client(base_url=self.url, transport=transport, headers=headers, timeout=PATIENCE_S)

    def logs(self) -> str:
        """All that it wrote."""
        return "\n".join(path.read_text(errors="replace") for path in self.directory.iterdir() if path.is_file())


def program(name: str) -> str:
    """The program's path. In CI it must be there."""
    found = shutil.which(name, path=_PATH)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"CI needs {name}: .ci/packages installs it")
    if found is None:
        pytest.skip(f"needs {name}: install Debian's package `{name}`, as .ci/packages does")
    return found


def nginx_files(directory: Path, port: int, upstream_port: int) -> None:
    """Write deploy/single/nginx.conf for these ports, and what it is included by."""
    away_port, plain_port = free_port(), free_port()
    text = (SINGLE / "nginx.conf").read_text()
    for what, instead in (
        (r"^ *listen \[::\].*\n", ""),
        (r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (r"listen 80;", f"listen 127.0.0.1:{plain_port};"),
        (r"127\.0\.0\.1:8402", f"127.0.0.1:{upstream_port}"),
        (r"127\.0\.0\.1:8404", f"127.0.0.1:{away_port}"),
        (r"/etc/letsencrypt/live/satmeter\.example/fullchain\.pem", f"{directory}/cert.pem"),
        (r"/etc/letsencrypt/live/satmeter\.example/privkey\.pem", f"{directory}/key.pem"),
        (r"/var/log/nginx/", f"{directory}/"),
    ):
        text, count = re.subn(what, instead, text, flags=re.MULTILINE)
        assert count, f"nginx.conf has no {what}"
    (directory / "site").write_text(text)
    (directory / "nginx.conf").write_text(_NGINX.format(directory=directory))


def caddy_files(directory: Path, port: int) -> None:
    """Write deploy/single/Caddyfile for this port, with the certificate that lies there."""
    text = (SINGLE / "Caddyfile").read_text()
    ports = (f"http_port {free_port()}", f"https_port {port}")
    options = (*ports, "admin off", "skip_install_trust", "auto_https disable_redirects")
    whole = "".join(f"\t{option}\n" for option in options)
    text, count = re.subn(r"^\{\n", "{\n" + whole, text, count=1, flags=re.MULTILINE)
    assert count
    site = f"\tbind 127.0.0.1\n\ttls {directory}/cert.pem {directory}/key.pem\n"
    text, count = re.subn(r"^(\{\$SITE_ADDRESS.*\{\n)", rf"\1{site}", text, flags=re.MULTILINE)
    assert count
    (directory / "Caddyfile").write_text(text)


@contextmanager
def proxied(name: str, upstream_port: int) -> Iterator[Proxy]:
    """A proxy before the server at this port."""
    found, port = program(name), free_port()
    with tempfile.TemporaryDirectory(prefix="sm-proxy-") as made:
        directory = Path(made)
        _, trust = contexts(directory)
        trust.set_alpn_protocols(["http/1.1"])
        environment = {"PATH": _PATH}
        if name == "nginx":
            nginx_files(directory, port, upstream_port)
            command = [found, "-p", made, "-e", f"{made}/errors", "-c", f"{made}/nginx.conf"]
        else:
            caddy_files(directory, port)
            command = [found, "run", "--config", f"{made}/Caddyfile", "--adapter", "caddyfile"]
            environment |= {
                "HOME": made,
                "XDG_DATA_HOME": f"{made}/data",
                "XDG_CONFIG_HOME": f"{made}/config",
                "SITE_ADDRESS": f"https://127.0.0.1:{port}",
                "SITE_UPSTREAM": f"127.0.0.1:{upstream_port}",
            }
        proxy = Proxy(name, port, trust, directory)
        with (directory / "output").open("wb") as log:
            process = subprocess.Popen(ending_with_us(command), env=environment, stdout=log, stderr=log)
            try:
                patiently(lambda: process.poll() is not None or _answers(proxy), f"{name} does not answer")
                assert process.poll() is None, proxy.logs()
                yield proxy
            finally:
                process.terminate()
                process.wait(PATIENCE_S)


def _answers(proxy: Proxy) -> bool:
    try:
        with proxy.client() as client:
            return client.get("/healthz").status_code == 200
    except httpx.HTTPError:
        return False
