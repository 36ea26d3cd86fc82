"""A real Prometheus at a real server under load: each panel of the dashboard and each alert has data."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from tests.helpers.cluster.jobs import create, finish, pay
from tests.helpers.cluster.sessions import session
from tests.helpers.patience import PROGRAM_S
from tests.helpers.prometheus import Prometheus, alerts, panel_expressions, prometheus, selectors
from tests.helpers.served import MessagesApi, Served, patiently, served

TOKEN = "operators-token-of-this-test"
_LOAD = ("--sessions", "3", "--deposit", "1000", "--rate", "10", "--duration", "3", "--stream")


class _Price(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"bitcoin": {"usd": 100000}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def price_source() -> Iterator[str]:
    """The address of a source of a price."""
    server = HTTPServer(("127.0.0.1", 0), _Price)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def some_of_all(server: Served) -> None:
    """Bring about what the panels show: requests whole and streamed, a job, a refund."""
    command = [str(Path(sys.executable).with_name("satmeter")), "load", server.url, *_LOAD]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    created = create(server)
    pay(server, created["evalInvoice"])
    finish(server, created["jobId"])
    with session(server) as client:
        client.ask()
        invoice = server.client.post("/dev/stub/invoice", json={"amountSats": 500}).json()
        assert client.refunded(invoice["paymentRequest"]).status_code == 200


def without_data(asked: Prometheus) -> list[str]:
    """Return the panels without a figure, and the alerts that ask for a series that is not there."""
    empty = [
        f"{title}: {expression}"
        for title, expression in panel_expressions()
        if not any(not math.isnan(value) for _, value in asked.ask(expression))
    ]
    for alert in alerts():
        for name, matchers in selectors(alert["expr"]):
            if alert["alert"] != "SatmeterNotScraped":
                kinds = "".join(f', {label}=~"{value}"' for label, value in matchers.items() if label != "job")
                wanted = f'{name}{{job="satmeter"{kinds if "!~" not in alert["expr"] else ""}}}'
                if alert["alert"] != "SatmeterErrors" and not asked.ask(wanted):
                    empty.append(f"{alert['alert']}: {wanted}")
    return empty


def test_prometheus_finds_data_for_each_panel_and_each_alert(data_dir: Path, model: MessagesApi) -> None:
    with (
        price_source() as price_url,
        served(
            data_dir,
            SATMETER_HOSTS="1",
            SATMETER_WORKERS="2",
            OPERATOR_TOKEN=TOKEN,
            ANTHROPIC_API_KEY="test",
            ANTHROPIC_BASE_URL=model.url,
            BTC_PRICE_URL=price_url,
        ) as server,
        prometheus(data_dir.parent / "prometheus", server.port, TOKEN) as asked,
    ):
        # The growth of a series shows from its second figure on.
        some_of_all(server)
        patiently(lambda: asked.ask("satmeter_time_to_first_token_seconds_count"), "a model's series did not come")
        some_of_all(server)
        try:
            # The treasury looks at the wallet now and then.
            patiently(lambda: without_data(asked) == [], "panels without data")
        except TimeoutError:
            assert "\n".join(without_data(asked)) == ""
        rules = asked.rules()
        assert {rule["name"] for rule in rules} == {alert["alert"] for alert in alerts()}
        assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
        # The embedded store of a development server may be anything; all else is well.
        assert {rule["name"] for rule in rules if rule["state"] == "firing"} <= {"SatmeterStoreUnsafe"}
