"""l402-requests, with a wallet that the stub node pays for."""

from cases import HAIKU, QUESTION, SERVER, case, check, pay, run
from l402_requests import L402Client, WalletBase

URL = f"{SERVER}/v1/messages"


class Wallet(WalletBase):
    def __init__(self):
        self.paid = 0

    async def pay_invoice(self, bolt11):
        self.paid += 1
        return pay(bolt11)


def asked(text, max_tokens=200, **more):
    return {"model": HAIKU, "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}], **more}


@case("answer")
def answer():
    wallet = Wallet()
    client = L402Client(wallet)
    for _ in range(3):
        found = client.post(URL, json=asked(QUESTION))
        check(found.status_code == 200 and "sextant" in found.text, found.text)
    check(wallet.paid == 1, f"{wallet.paid} payments for three answers")


@case("stream")
def stream():
    found = L402Client(Wallet()).post(URL, json=asked(QUESTION, stream=True))
    check(found.status_code == 200 and "message_stop" in found.text, found.text)


@case("402")
def used_up():
    wallet = Wallet()
    client = L402Client(wallet)
    for number in range(40):
        found = client.post(URL, json=asked("[[spend]]", 9_000))
        check(
            found.status_code == 200, f"{found.status_code} at call {number} after {wallet.paid} payments: {found.text}"
        )
        if wallet.paid > 1:
            return
    check(False, "one payment for 40 calls")


run()
