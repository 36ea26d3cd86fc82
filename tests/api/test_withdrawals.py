"""LNURL-withdraw over a real host and store: a wallet scans a link and takes what is owed, once, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
import pytest_asyncio
from msgspec.structs import replace as changed
from redis.asyncio import Redis

from satmeter.actors.domain.credentials.macaroon import attenuate
from satmeter.actors.domain.credentials.withdrawals import token_of
from satmeter.actors.domain.job.state import GetJob
from satmeter.actors.domain.payments.destinations import DestinationFault, UnfitDestinationError, read_destination
from satmeter.actors.domain.payments.payouts import PayoutRefusal, PayoutReport, PayoutStatus, RefundState
from satmeter.config.root_key import Keys
from satmeter.http.app import create_app
from satmeter.http.payments.withdrawals import Withdrawals
from tests.helpers.hosts import until
from tests.helpers.http.fronts import WITHDRAW_KEY, Api, Json, api_over, client_of
from tests.helpers.http.stubs import stubbed
from tests.helpers.jobs import START_MS
from tests.helpers.lnurl_servers import invoice_of, url_of_lnurl

PUBLIC = "https://satmeter.example"
FAILED = PayoutReport(PayoutStatus.FAILED)


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    async with api_over(redis, public_url=PUBLIC) as front:
        yield front


class Wallet:
    """A wallet that was given a link: it knows nothing but the LNURL."""

    def __init__(self, http: httpx.AsyncClient, lnurl: str) -> None:
        self.http = http
        self.url = url_of_lnurl(lnurl)
        assert self.url.startswith(f"{PUBLIC}/")

    async def get(self, url: str, **query: str) -> Json:
        answer = await self.http.get(url.removeprefix(PUBLIC), params=query)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
        assert answer.headers["cache-control"] == "no-store"
        told: Json = answer.json()
        return told

    async def offer(self) -> Json:
        return await self.get(self.url)

    async def take(self, pr: str) -> Json:
        return await self.send(pr=pr)

    async def send(self, **query: str) -> Json:
        offer = await self.offer()
        return await self.get(offer["callback"], **{"k1": offer["k1"], **query})


class Holder:
    """The holder of a session with 1,000 sats."""

    def __init__(self, api: Api, opened: Json) -> None:
        self.api, self.session_id, self.macaroon = api, opened["sessionId"], opened["macaroon"]

    async def call(self, method: str, path: str, *caveats: str, **options: Any) -> httpx.Response:
        macaroon = attenuate(self.macaroon, list(caveats)) if caveats else self.macaroon
        headers = {"Authorization": f"Bearer {macaroon}"}
        return await self.api.http.request(method, f"/sessions/{self.session_id}{path}", headers=headers, **options)

    async def wallet(self) -> Wallet:
        answer = await self.call("POST", "/withdraw")
        assert answer.status_code == 200, answer.text
        return Wallet(self.api.http, answer.json()["refund"]["withdraw"]["lnurl"])

    async def refund(self) -> Json:
        refund: Json = (await self.call("GET", "")).json()["refund"]
        return refund


async def opened(api: Api) -> Holder:
    made = (await api.http.post("/sessions", json={"amountSats": 1_000})).json()
    await api.pay(made["depositInvoice"])
    return Holder(api, made)


def valid(amount_msat: int, network: str = "bcrt") -> str:
    """An invoice that is valid by the hosts' clock."""
    return invoice_of(amount_msat, network=network, at_s=START_MS // 1_000, expiry_s=100_000_000)


def sats(amount: int) -> str:
    return valid(amount * 1_000)


async def test_a_wallet_takes_the_rest_of_a_session(api: Api) -> None:
    holder = await opened(api)
    answer = await holder.call("POST", "/withdraw")
    told = answer.json()
    assert (answer.status_code, told["state"], told["refund"]["payableSats"]) == (200, "closed", 990)
    link = told["refund"]["withdraw"]
    assert link["link"] == f"lightning:{link['lnurl']}" and link["lnurl"].isupper()
    assert (await holder.call("POST", "/withdraw")).json()["refund"]["withdraw"] == link
    wallet = Wallet(api.http, link["lnurl"])
    offer = await wallet.offer()
    assert (offer["tag"], offer["minWithdrawable"], offer["maxWithdrawable"]) == ("withdrawRequest", 1_000, 990_000)
    assert offer["defaultDescription"] and offer["callback"].startswith(f"{wallet.url}/")
    pr = sats(990)
    assert await wallet.take(pr) == {"status": "OK"}

    async def paid() -> bool:
        return bool((await holder.refund())["paidMsat"] == 990_000)

    await until(paid)
    assert await wallet.take(pr) == {"status": "OK"}
    assert [target.payment_request for target, _ in api.world.lightning.payout_orders] == [pr]
    # What the reserve left is still there, and then nothing is.
    assert (await wallet.offer())["maxWithdrawable"] == 8_000
    assert await wallet.take(sats(8)) == {"status": "OK"}

    async def all_paid() -> bool:
        return bool((await holder.refund())["state"] == "paid")

    await until(all_paid)
    offer = await wallet.offer()
    assert (offer["minWithdrawable"], offer["maxWithdrawable"]) == (0, 0)
    assert (await wallet.take(sats(1)))["status"] == "ERROR"


async def test_a_wallet_takes_what_a_job_owes(api: Api) -> None:
    job = await api.complete()
    link = job["refund"]["withdraw"]
    wallet = Wallet(api.http, link["lnurl"])
    payable = job["refund"]["payableSats"]
    assert (await wallet.offer())["maxWithdrawable"] == payable * 1_000
    assert await wallet.take(sats(payable)) == {"status": "OK"}

    async def paid() -> bool:
        return bool((await api.show(job["jobId"]))["refund"]["paidMsat"] == payable * 1_000)

    await until(paid)


async def test_a_jobs_events_hold_the_link_as_the_job_does(api: Api) -> None:
    job = await api.complete()
    told = (await api.http.get(f"/jobs/{job['jobId']}/events")).text
    (data,) = [line.removeprefix("data: ") for line in told.splitlines() if line.startswith("data: ")]
    assert json.loads(data) == job and "withdraw" in job["refund"]


async def test_a_job_of_which_no_route_leaves_anything_shows_no_link(redis: Redis) -> None:
    """A debt below the least reserve: a phone that scanned the code would be offered nothing."""
    async with api_over(redis, public_url=PUBLIC) as api:
        job = await api.complete()
        view, link = await api.state.router.call(job["jobId"], GetJob()), Withdrawals(api.state).of_job
        assert view.refund is not None and link(view) is not None
        rest = changed(view.refund, payable_sats=0)
        assert link(changed(view, refund=rest)) is None
        # A payout that is under way may fail.
        assert link(changed(view, refund=changed(rest, state=RefundState.PENDING))) is not None


async def test_the_answer_comes_once_the_payout_is_journaled_and_a_second_invoice_is_refused(api: Api) -> None:
    holder, node = await opened(api), api.world.lightning
    wallet, first = await holder.wallet(), sats(990)
    node.gate.close()
    assert await wallet.take(first) == {"status": "OK"}
    assert (await holder.refund())["state"] == "pending"
    offer = await wallet.offer()
    assert (offer["minWithdrawable"], offer["maxWithdrawable"]) == (0, 0)
    assert await wallet.take(first) == {"status": "OK"}
    second = await wallet.take(sats(500))
    assert second["status"] == "ERROR" and "may still succeed" in second["reason"]
    answers = await asyncio.gather(*(wallet.take(pr) for pr in (first, sats(1), first, sats(2))))
    assert [told["status"] for told in answers] == ["OK", "ERROR", "OK", "ERROR"]
    node.gate.open()

    async def paid() -> bool:
        return bool((await holder.refund())["paidMsat"] == 990_000)

    await until(paid)
    assert len(node.payout_orders) == 1


async def test_wallets_that_scan_at_the_same_time_get_one_payout(api: Api) -> None:
    holder, node = await opened(api), api.world.lightning
    wallet = await holder.wallet()
    node.gate.close()
    told = await asyncio.gather(*(wallet.take(sats(990)) for _ in range(8)))
    assert [answer["status"] for answer in told].count("OK") == 1
    node.gate.open()
    assert len(node.payout_orders) == 1


async def test_a_failed_payment_is_told_and_another_invoice_is_paid(api: Api) -> None:
    holder, node = await opened(api), api.world.lightning
    wallet, first = await holder.wallet(), sats(990)
    node.payout_script = [FAILED]
    assert await wallet.take(first) == {"status": "OK"}

    async def failed() -> bool:
        return bool((await holder.refund()).get("failureCode") == "payment_failed")

    await until(failed)
    told = await wallet.take(first)
    assert told["status"] == "ERROR" and "another" in told["reason"]
    assert await wallet.take(sats(990)) == {"status": "OK"}
    assert len(node.payout_orders) == 2


async def test_a_server_that_can_t_pay_says_so_and_does_once_that_is_mended(api: Api) -> None:
    holder, node = await opened(api), api.world.lightning
    wallet, first = await holder.wallet(), sats(990)
    node.payout_script = [PayoutReport(PayoutStatus.FAILED, refusal=PayoutRefusal.KEY)]
    assert await wallet.take(first) == {"status": "OK"}

    async def failed() -> bool:
        return bool((await holder.refund()).get("failureCode") == "server_cannot_pay")

    await until(failed)
    told = await wallet.take(first)
    assert told["status"] == "ERROR" and "The server can't pay" in told["reason"]
    assert await wallet.take(sats(990)) == {"status": "OK"}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"k1": "0" * 64}, "k1"),
        ({"k1": ""}, "k1"),
        ({"pr": ""}, "BOLT11"),
        ({"pr": "lnbc1"}, "BOLT11"),
        ({"pr": "x" * 5_000}, "BOLT11"),
        ({"pr": "me@example.org"}, "BOLT11"),
        ({"pr": valid(990_500)}, "whole sats"),
        ({"pr": invoice_of(990_000, expiry_s=10)}, "expired"),
        ({"pr": valid(990_000, "bc")}, "another network"),
        ({"pr": valid(991_000)}, "At most 990 sats"),
    ],
)
async def test_what_is_no_invoice_within_the_offer_is_told_to_the_wallet(
    api: Api, query: dict[str, str], reason: str
) -> None:
    holder = await opened(api)
    wallet = await holder.wallet()
    told = await wallet.send(**{"pr": sats(990), **query})
    assert told["status"] == "ERROR" and reason in told["reason"]
    assert api.world.lightning.payout_orders == []


async def test_a_look_ahead_moves_no_money(api: Api) -> None:
    wallet = await (await opened(api)).wallet()
    offer = await wallet.offer()
    url = offer["callback"].removeprefix(PUBLIC)
    answer = await api.http.head(url, params={"k1": offer["k1"], "pr": sats(990)})
    assert answer.status_code == 200
    assert (await api.http.post(url, params={"k1": offer["k1"], "pr": sats(990)})).status_code == 405
    assert api.world.lightning.payout_orders == [] and (await wallet.offer()) == offer


@pytest.mark.parametrize("token", ["x", "A" * 64, "é" * 64, token_of(b"a stranger's key", "job_" + "A" * 32)])
async def test_no_other_token_opens_anything(api: Api, token: str) -> None:
    for path in ("", "/callback?k1=x&pr=y"):
        answer = await api.http.get(f"/lnurl/withdraw/{token}{path}")
        assert answer.status_code == 200 and answer.json()["status"] == "ERROR"
    answer = await api.http.get(f"/lnurl/withdraw/{token}/qr.svg")
    assert (answer.status_code, answer.json()["status"]) == (404, "ERROR")


async def test_a_token_of_an_open_session_takes_nothing_and_does_not_end_it(api: Api) -> None:
    """None is made for one, but the key's owner could."""
    holder = await opened(api)
    path = f"/lnurl/withdraw/{token_of(WITHDRAW_KEY, holder.session_id, 1)}"
    offer = (await api.http.get(path)).json()
    assert offer["status"] == "ERROR"
    assert (await holder.call("GET", "")).json()["state"] == "active"


@pytest.mark.parametrize(
    "caveat", ["max_msat = 5000", "max_msat_per_request = 5000", "expires_at = 4000000000", "actions = read,request"]
)
async def test_a_narrowed_credential_gets_no_link(api: Api, caveat: str) -> None:
    holder = await opened(api)
    answer = await holder.call("POST", "/withdraw", caveat)
    assert (answer.status_code, answer.json()["code"]) == (403, "caveat_violated")
    assert (await holder.call("GET", "")).json()["state"] == "active"


async def test_who_only_reads_a_session_never_sees_its_link(api: Api) -> None:
    holder = await opened(api)
    await holder.wallet()
    shown = await holder.call("GET", "", "actions = read")
    assert shown.status_code == 200 and "withdraw" not in shown.json()["refund"]


async def test_while_the_root_key_is_changed_old_links_are_good_and_then_no_more(api: Api) -> None:
    holder = await opened(api)
    wallet = await holder.wallet()
    old = Keys(b"", b"", b"", b"", WITHDRAW_KEY, b"", "old")
    during = replace(api.state, withdraw_key=b"the new key", previous_keys=old)
    async with client_of(create_app(during)) as wallet.http:
        assert (await wallet.offer())["maxWithdrawable"] == 990_000
        assert await wallet.take(sats(500)) == {"status": "OK"}
    async with client_of(create_app(replace(during, previous_keys=None))) as wallet.http:
        assert (await wallet.offer())["status"] == "ERROR"


async def test_the_picture_holds_the_link_and_nothing_that_runs(api: Api) -> None:
    holder = await opened(api)
    link = (await holder.call("POST", "/withdraw")).json()["refund"]["withdraw"]
    assert link["qr"].startswith(f"{PUBLIC}/lnurl/withdraw/")
    answer = await api.http.get(link["qr"].removeprefix(PUBLIC))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    root = ElementTree.fromstring(answer.content)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} == {"svg", "g", "path"}
    assert "href" not in answer.text and "style" not in answer.text


async def test_a_link_is_not_a_place_to_pay_to(api: Api) -> None:
    holder = await opened(api)
    link = (await holder.call("POST", "/withdraw")).json()["refund"]["withdraw"]
    with pytest.raises(UnfitDestinationError) as raised:
        read_destination(link["lnurl"].replace("LNURL", "lnurlw"))
    assert raised.value.fault is DestinationFault.MALFORMED


async def test_without_an_address_of_the_server_there_is_no_link_and_the_session_stays_open(redis: Redis) -> None:
    async with api_over(redis) as api:
        holder = await opened(api)
        answer = await holder.call("POST", "/withdraw")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "SATMETER_PUBLIC_URL" in answer.json()["error"] and answer.json()["retryAction"] == "ask_a_person"
        assert (await holder.call("GET", "")).json()["state"] == "active"
        told = (await api.http.get(f"/lnurl/withdraw/{token_of(WITHDRAW_KEY, holder.session_id, 1)}")).json()
        assert told["status"] == "ERROR" and "SATMETER_PUBLIC_URL" in told["reason"]
        assert "withdraw" not in (await api.complete())["refund"]


async def test_the_host_header_is_never_believed(api: Api) -> None:
    holder = await opened(api)
    headers = {"Authorization": f"Bearer {holder.macaroon}", "Host": "evil.example", "X-Forwarded-Host": "evil.example"}
    answer = await api.http.post(f"/sessions/{holder.session_id}/withdraw", headers=headers)
    assert "evil" not in url_of_lnurl(answer.json()["refund"]["withdraw"]["lnurl"])


async def test_a_server_that_can_t_pay_gives_no_link() -> None:
    async with stubbed(public_url=PUBLIC, lnbits_url="http://127.0.0.1:1", lnbits_invoice_key="k") as front:
        answer = await front.post("/withdraw")
        assert answer.status_code == 503 and front.router.asked == []
