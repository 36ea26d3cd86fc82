"""The operator's page: who gets in, what a form may do, and that its figures are those of the audit."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr
from redis.asyncio import Redis
from starlette.types import ASGIApp

from satmeter.actors.domain.payments.payouts import PayoutReport, PayoutStatus
from satmeter.actors.operator.answer_counts import AnswerCounts
from satmeter.actors.ports import TransientError
from satmeter.http.app import create_app
from satmeter.http.operator.sign_in import COOKIE, LIFE_S
from tests.helpers.audits import audited
from tests.helpers.hosts import until
from tests.helpers.http.fronts import CLIENT, OPERATOR_TOKEN, Api, api_over, books_of

PAGE = "/operator"
_RATE = {"input": 2, "output": 10, "cache_read": "0.1", "cache_write_5m": "2.5", "cache_write_1h": 4}
RATES = {"sonnet": _RATE, "haiku": _RATE}


@pytest_asyncio.fixture
async def api(redis: Redis) -> AsyncIterator[Api]:
    async with api_over(redis, WORK_MODEL="sonnet", EVAL_MODEL="haiku", SATMETER_RATES=RATES) as running:
        yield running


def browser(app: ASGIApp, address: str = CLIENT, origin: str = "https://satmeter.test") -> httpx.AsyncClient:
    """A browser at this address: it keeps cookies."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 50_000)), base_url=origin)


async def entered(client: httpx.AsyncClient, token: str = OPERATOR_TOKEN) -> httpx.Response:
    return await client.post(f"{PAGE}/sign-in", data={"token": token})


async def funded(api: Api, sats: int) -> dict[str, Any]:
    session = (await api.http.post("/sessions", json={"amountSats": sats})).json()
    await api.pay(session["depositInvoice"])
    return dict(session)


def form_of(page: str) -> str:
    found = re.search(r'name="form" value="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]


# Who gets in


async def test_the_token_opens_the_page_and_the_cookie_keeps_it_open(api: Api) -> None:
    async with browser(api.app) as client:
        page = await client.get(PAGE)
        assert page.status_code == 200 and "Operator token" in page.text and "Takings" not in page.text
        answer = await entered(client)
        assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
        (cookie,) = answer.headers.get_list("set-cookie")
        for word in ("HttpOnly", "Secure", "SameSite=strict", f"Path={PAGE}", f"Max-Age={LIFE_S}"):
            assert word in cookie
        assert OPERATOR_TOKEN not in cookie
        page = await client.get(PAGE)
        assert "Takings" in page.text and OPERATOR_TOKEN not in page.text
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "form-action 'self'" in policy
        assert page.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?! type=\"module\" src=)|<style|\sstyle=|\son\w+=", page.text)


async def test_a_program_shows_the_token_itself(api: Api) -> None:
    async with browser(api.app) as client:
        page = await client.get(PAGE, headers={"authorization": f"Bearer {OPERATOR_TOKEN}"})
        assert page.status_code == 200 and "Takings" in page.text and "set-cookie" not in page.headers
        for wrong in ("Bearer wrong", f"Basic {OPERATOR_TOKEN}", "Bearer"):
            refused = await client.get(PAGE, headers={"authorization": wrong})
            assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credential")


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8402", "http://localhost:8402", "http://[::1]:8402"])
async def test_on_loopback_the_cookie_needs_no_tls(api: Api, origin: str) -> None:
    async with browser(api.app, origin=origin) as client:
        assert "Secure" not in (await entered(client)).headers["set-cookie"]
        assert "Takings" in (await client.get(PAGE)).text


async def test_a_connection_that_others_can_read_is_not_asked_for_the_token(api: Api) -> None:
    async with browser(api.app, origin="http://satmeter.test") as client:
        page = await client.get(PAGE)
        assert 'name="token"' not in page.text and "https" in page.text


async def test_behind_a_trusted_proxy_its_word_on_tls_counts(redis: Redis) -> None:
    async with api_over(redis, trusted_proxies=["10.0.0.1"]) as api:
        tls = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.5"}
        async with browser(api.app, address="10.0.0.1", origin="http://satmeter.test") as client:
            client.headers.update(tls)
            assert "Secure" in (await entered(client)).headers["set-cookie"]


async def test_without_a_token_the_page_says_how_to_set_one(redis: Redis) -> None:
    async with api_over(redis, operator_token=None) as api, browser(api.app) as client:
        page = await client.get(PAGE)
        assert "OPERATOR_TOKEN" in page.text and 'name="token"' not in page.text
        for token in ("", "None"):
            assert (await entered(client, token)).status_code == 401


@pytest.mark.parametrize("token", ["", "wrong", f"{OPERATOR_TOKEN} ", "x" * 10_000])
async def test_a_wrong_token_opens_nothing(api: Api, token: str) -> None:
    async with browser(api.app) as client:
        answer = await entered(client, token)
        assert answer.status_code == 401 and "set-cookie" not in answer.headers
        assert "This is not the operator" in answer.text


async def test_wrong_tokens_are_limited_for_each_address(api: Api) -> None:
    async with browser(api.app) as client, browser(api.app, address="203.0.113.9") as other:
        statuses = [(await entered(client, f"wrong {number}")).status_code for number in range(6)]
        assert statuses == [401] * 5 + [429]
        # The right one is not even looked at, or guesses could go on.
        refused = await entered(client)
        assert refused.status_code == 429 and "set-cookie" not in refused.headers
        assert refused.headers["retry-after"] == "60"
        assert (await entered(other)).status_code == 303


async def test_a_cookie_holds_on_every_front_and_ends_with_another_token(api: Api) -> None:
    async with browser(api.app) as client:
        cookie = (await entered(client)).cookies[COOKIE]
    second = create_app(api.state)
    async with browser(second) as client:
        client.cookies.set(COOKIE, cookie, domain="satmeter.test")
        page = await client.get(PAGE)
        assert "Takings" in page.text
        # A form of the one front is good at the other.
        async with browser(api.app) as first:
            first.cookies.set(COOKIE, cookie, domain="satmeter.test")
            answer = await first.post(f"{PAGE}/look", data={"form": form_of(page.text), "actor": "ses_none"})
            assert answer.status_code == 303
    rotated = replace(api.state, settings=api.state.settings.model_copy(update={"operator_token": SecretStr("new")}))
    async with browser(create_app(rotated)) as client:
        client.cookies.set(COOKIE, cookie, domain="satmeter.test")
        assert "Takings" not in (await client.get(PAGE)).text


async def test_the_cookie_opens_no_other_path_and_no_other_origin_reads_the_page(api: Api) -> None:
    async with browser(api.app) as client:
        cookie = (await entered(client)).cookies[COOKIE]
        metrics = await client.get("/metrics", headers={"cookie": f"{COOKIE}={cookie}"})
        assert metrics.status_code == 401
        page = await client.get(PAGE, headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in page.headers


# Forms


@pytest.mark.parametrize("path", ["look", "sign-out"])
async def test_a_change_needs_the_token_of_the_form(api: Api, path: str) -> None:
    async with browser(api.app) as client:
        assert (await client.post(f"{PAGE}/{path}", data={"form": "0" * 64})).status_code == 401
        await entered(client)
        form = form_of((await client.get(PAGE)).text)
        for data in ({}, {"form": ""}, {"form": "0" * 64}, {"form": form[:-1]}):
            assert (await client.post(f"{PAGE}/{path}", data={"actor": "ses_x", **data})).status_code == 403
        other_site = {"sec-fetch-site": "cross-site"}
        answer = await client.post(f"{PAGE}/{path}", data={"form": form}, headers=other_site)
        assert answer.status_code == 403
        assert (await client.post(f"{PAGE}/{path}", data={"form": form, "actor": "ses_x"})).status_code == 303


async def test_signing_out_ends_every_copy_of_the_cookie_and_no_other(api: Api) -> None:
    second = create_app(api.state)
    async with browser(api.app) as client, browser(second) as thief, browser(second) as phone:
        cookie = (await entered(client)).cookies[COOKIE]
        await entered(phone)
        thief.cookies.set(COOKIE, cookie, domain="satmeter.test", path=PAGE)
        page = await thief.get(PAGE)
        assert "Takings" in page.text
        form = form_of((await client.get(PAGE)).text)
        answer = await client.post(f"{PAGE}/sign-out", data={"form": form})
        assert (answer.status_code, client.cookies.get(COOKIE)) == (303, None)
        assert "Takings" not in (await client.get(PAGE)).text
        assert "Takings" not in (await thief.get(PAGE)).text
        for path in ("look", "sign-out"):
            assert (await thief.post(f"{PAGE}/{path}", data={"form": form_of(page.text)})).status_code == 401
        assert "Takings" in (await phone.get(PAGE)).text
    (key,) = await api.world.redis.keys("satmeter:signed_out:*")
    assert 0 < await api.world.redis.pttl(key) <= LIFE_S * 1_000
    assert cookie.split(".")[1] not in str(key)


class _Away:
    """A store that is away, whose figures are not."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def __getattr__(self, name: str) -> Any:
        return getattr(self._board, name)

    async def end_sign_in(self, name: str, keep_ms: int) -> None:
        raise TransientError("away")

    async def is_sign_in_ended(self, name: str) -> bool:
        raise TransientError("away")


def while_away(api: Api) -> Any:
    """The front of an api whose store has gone."""
    books = books_of(api.world)
    away = replace(books, board=cast(Any, _Away(books.board)))
    return create_app(replace(api.state, books=away))


async def test_while_the_store_is_away_a_cookie_opens_what_is_down_and_no_figures(api: Api) -> None:
    """Only the store knows of a sign-out: the cookie may be a copy of one that was ended elsewhere."""
    async with browser(api.app) as client, browser(while_away(api)) as there:
        await entered(client)
        figures = form_of((await client.get(PAGE)).text)
        there.cookies.update(client.cookies)
        page = await there.get(PAGE)
        assert (page.status_code, page.headers["retry-after"]) == (503, "5")
        assert "shows no figures" in page.text and form_of(page.text) == figures
        assert "Takings" not in page.text and "The wallet holds" not in page.text
        looked = await there.post(f"{PAGE}/look", data={"form": figures, "actor": "ses_1"})
        assert (looked.status_code, "shows no figures" in looked.text) == (503, True)
        told = await there.get(PAGE, headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"})
        assert told.status_code == 200 and "Takings" in told.text


async def test_while_the_store_is_away_a_sign_out_says_that_it_is_of_this_browser(api: Api) -> None:
    async with browser(while_away(api)) as client:
        await entered(client)
        form = form_of((await client.get(PAGE)).text)
        answer = await client.post(f"{PAGE}/sign-out", data={"form": form})
        assert "signed out in this browser" in answer.text and client.cookies.get(COOKIE) is None


async def test_the_page_says_which_part_is_down_while_the_store_is_away(api: Api) -> None:
    async def gone() -> None:
        raise TransientError("away")

    checks = {**api.state.checks, "store": gone}
    state = replace(api.state, checks=checks)
    async with browser(while_away(replace(api, state=state))) as client:
        await entered(client)
        assert "<strong>The store can&#x27;t be reached just now" in (await client.get(PAGE)).text


@pytest.mark.parametrize("body", [b"\xff\xfe", b"&" * 3_000, b"token", b"a=b&" * 100, b"token=" + b"%00" * 100])
async def test_any_body_is_a_wrong_token(api: Api, body: bytes) -> None:
    async with browser(api.app) as client:
        assert (await client.post(f"{PAGE}/sign-in", content=body)).status_code == 401


# Figures


async def test_the_figures_are_those_of_the_audit(api: Api) -> None:
    session = await funded(api, 2_000)
    for number in range(3):
        answer = await api.http.post(
            f"/sessions/{session['sessionId']}/request",
            json={"request": f"say {number}"},
            headers={"Authorization": f"Bearer {session['macaroon']}"},
        )
        assert answer.status_code == 200, answer.text
    await api.complete()
    api.world.lightning.wallet_msat = 100_000_000
    report = await audited(api.world)
    assert (report.difference_count, report.hours_compared) == (0, 1)
    spent = sum(kind["spent"] - kind["fees"] for kind in (report.sessions, report.jobs))
    received = report.sessions["received"] + report.jobs["received"]
    async with browser(api.app) as client:
        await entered(client)
        for span in ("24h", "7d", "90d", "none"):
            page = (await client.get(PAGE, params={"span": span})).text
            assert figure(page, "Takings") == f"{spent // 1_000:,} sats"
            assert figure(page, "Paid in") == f"{received // 1_000:,} sats"
        page = (await client.get(PAGE)).text
        assert f"Since the beginning: {spent // 1_000:,} sats taken" in page
        assert '<td>Requests that were answered</td><td class="number">3</td>' in page
        assert '<td>Jobs that were completed</td><td class="number">1</td>' in page
        assert '<td>Sessions in use</td><td class="number">1</td>' in page


def figure(page: str, name: str) -> str:
    found = re.search(rf'<dt>{name}</dt><dd><span class="value">([^<]*)</span>', page)
    assert found is not None
    return found[1]


async def test_the_last_hour_counts_what_clients_asked(api: Api) -> None:
    answers = AnswerCounts(books_of(api.world).board, api.world.now_ms)
    app = create_app(replace(api.state, answers=answers))
    async with browser(app) as client:
        for path in ("/pricing", "/jobs/job_none", "/readyz"):
            await client.get(path)
        await entered(client)
        page = (await client.get(PAGE)).text
        assert (figure(page, "Requests"), figure(page, "Refused"), figure(page, "Failed")) == ("2", "1", "0")


async def test_a_payout_of_unknown_outcome_is_listed_looked_up_and_never_sent_again(api: Api) -> None:
    lightning = api.world.lightning
    lightning.payout_script = [TransientError("no answer")]
    session = await funded(api, 2_000)
    invoice = (await api.http.post("/dev/stub/invoice", json={"amountSats": 500})).json()
    lightning.outgoing[invoice["paymentHash"]] = PayoutReport(PayoutStatus.PENDING)
    bearer = {"Authorization": f"Bearer {session['macaroon']}"}
    close = api.http.post(
        f"/sessions/{session['sessionId']}/close",
        json={"paymentRequest": invoice["paymentRequest"]},
        headers=bearer,
    )
    assert (await close).status_code in (200, 202, 425)
    async with browser(api.app) as client:
        await entered(client)

        async def listed() -> bool:
            return "Look again at" in (await client.get(PAGE)).text

        await until(listed)
        page = (await client.get(PAGE)).text
        assert "it is looked up and never sent again" in page and session["sessionId"][:10] in page
        sent = len(lightning.payout_orders)
        look = {"form": form_of(page), "actor": session["sessionId"]}
        answer = await client.post(f"{PAGE}/look", data=look)
        assert answer.headers["location"] == f"{PAGE}?looked=pending#payouts"
        assert "still on its way" in (await client.get(answer.headers["location"])).text
        assert len(lightning.payout_orders) == sent == 1


async def test_what_others_wrote_is_text(api: Api) -> None:
    evil = "<img src=x onerror=alert(1)>"
    hour = api.world.now_ms() // 3_600_000
    raw: Any = api.world.redis
    await raw.hset("satmeter:{p0000}:sums", mapping={f"{hour}:model_calls:{evil}": 1, f"{hour}:requests": 1})
    async with browser(api.app) as client:
        await entered(client)
        page = (await client.get(PAGE, params={"looked": evil})).text
        assert evil not in page and "&lt;img src=x onerror=alert(1)&gt;" in page


async def test_a_part_that_can_t_be_read_leaves_the_others(api: Api) -> None:
    async def away(*_: Any) -> Any:
        raise TransientError("away")

    books = replace(books_of(api.world), owners=away, load=away)
    async with browser(create_app(replace(api.state, books=books))) as client:
        await entered(client)
        page = await client.get(PAGE)
        assert page.status_code == 200 and "can't be read just now" in page.text.replace("&#x27;", "'")
