"""bolt402, with a stand-in for LND's REST interface that the stub node pays for."""

import json
import os
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bolt402 import Budget, L402Client
from cases import HAIKU, QUESTION, SERVER, case, check, pay, payment_hash, run

URL = f"{SERVER}/v1/messages"


class Lnd(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        invoice = asked["payment_request"]
        paid = {
            "payment_hash": payment_hash(invoice),
            "payment_preimage": pay(invoice),
            "status": "SUCCEEDED",
            "value_sat": "100",
            "value_msat": "100000",
            "fee_sat": "0",
            "fee_msat": "0",
        }
        body = json.dumps({"result": paid}).encode() + b"\n"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def client():
    return L402Client.with_lnd_rest(f"http://127.0.0.1:{lnd.server_port}", "00", budget=Budget(total_max=50_000))


def asked(text, max_tokens=200, **more):
    body = {"model": HAIKU, "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}], **more}
    return json.dumps(body)


@case("answer")
def answer():
    wallet = client()
    for _ in range(3):
        found = wallet.post(URL, asked(QUESTION))
        check(found.status == 200 and "sextant" in found.text(), found.text())
    check(len(wallet.receipts()) == 1, f"{len(wallet.receipts())} payments for three answers")


@case("stream")
def stream():
    found = client().post(URL, asked(QUESTION, stream=True))
    check(found.status == 200 and "message_stop" in found.text(), found.text())


@case("402")
def used_up():
    wallet = client()
    for number in range(40):
        found = wallet.post(URL, asked("[[spend]]", 9_000))
        check(found.status == 200, f"{found.status} at call {number}, {wallet.total_spent()} sats paid: {found.text()}")
        if len(wallet.receipts()) > 1:
            return
    check(False, "one payment for 40 calls")


lnd = ThreadingHTTPServer(("127.0.0.1", 0), Lnd)
# A process of its own: bolt402 lets no other thread of Python run while it waits.
if node := os.fork():
    try:
        run()
    finally:
        os.kill(node, signal.SIGKILL)
else:
    lnd.serve_forever()
