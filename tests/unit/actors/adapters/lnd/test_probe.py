"""Words of `satmeter check` on an LND, over TLS to the stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import httpx
import pytest

from satmeter.actors.adapters.lightning.backend import Probed
from satmeter.actors.adapters.lnd.backend import LND
from satmeter.actors.adapters.lnd.probe import TROUBLES, probe
from satmeter.actors.adapters.lnd.rights import NEEDED, MacaroonTrouble
from satmeter.config.settings import Settings
from tests.helpers.http.certificates import contexts
from tests.lightning.stand_ins.lnd.macaroons import ADMIN, INVOICES, READ_ONLY, bake
from tests.lightning.stand_ins.lnd.node import LndNode
from tests.lightning.stand_ins.lnd.server import NEEDED_RIGHTS, LndServer

CERT = "LND_TLS_CERT_FILE"


@pytest.fixture
async def lnd(tmp_path: Path) -> AsyncIterator[LndServer]:
    tls, _ = contexts(tmp_path)
    server = LndServer(LndNode(local_msat=5_000_999, remote_msat=2_000_000_000), tls=tls)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def told(
    lnd: LndServer, folder: Path, rights: Collection[str] = NEEDED_RIGHTS, may_order: bool = True, /, **settings: Any
) -> Probed:
    values = {
        "LND_REST_URL": lnd.url,
        "LND_MACAROON": lnd.macaroon(rights).hex(),
        CERT: str(folder / "cert.pem"),
        **settings,
    }
    async with httpx.AsyncClient() as http:
        return await probe(
            Settings(**{name: value for name, value in values.items() if value}), http, may_order=may_order
        )


def only(found: Probed) -> tuple[str, str]:
    assert len(found.problems) == 1, found
    return found.problems[0].variable, found.problems[0].message


def faulty(trouble: MacaroonTrouble) -> tuple[str, str]:
    words = TROUBLES[trouble].removeprefix("LND_MACAROON").removesuffix(".")
    return "LND_MACAROON", f"It{words}: bake one as docs/lightning.md says."


async def test_a_node_that_serves_is_proven_without_a_payment(lnd: LndServer, tmp_path: Path) -> None:
    found = await told(lnd, tmp_path)
    assert not found.problems
    assert not found.warnings
    assert list(found.proofs) == [
        "The macaroon allows to make invoices, look them up and pay, and nothing else.",
        "It can receive up to 2,000,000 sats.",
        "It can pay out up to 5,000 sats.",
        "A test invoice over 1 sat was made and found again.",
    ]
    assert len(lnd.node.invoices) == 1
    assert not lnd.node.orders


async def test_without_leave_no_invoice_is_made(lnd: LndServer, tmp_path: Path) -> None:
    assert not (await told(lnd, tmp_path, NEEDED_RIGHTS, False)).problems
    assert not lnd.node.invoices


@pytest.mark.parametrize(
    ("rights", "trouble"),
    [
        (INVOICES, MacaroonTrouble.NO_PAYOUTS),
        (READ_ONLY, MacaroonTrouble.NO_INVOICES),
        ((*INVOICES, "offchain:read", "offchain:write"), MacaroonTrouble.NO_STATE),
    ],
)
async def test_too_few_rights_are_a_problem(
    lnd: LndServer, tmp_path: Path, rights: Collection[str], trouble: MacaroonTrouble
) -> None:
    assert only(await told(lnd, tmp_path, rights)) == faulty(trouble)


async def test_too_many_rights_are_told_by_name(lnd: LndServer, tmp_path: Path) -> None:
    found = await told(lnd, tmp_path, ADMIN)
    assert not found.problems
    (warning,) = found.warnings
    assert warning.variable == "LND_MACAROON"
    assert "onchain:write" in warning.message
    assert not any("nothing else" in proof for proof in found.proofs)


async def test_a_macaroon_that_ends_is_told(lnd: LndServer, tmp_path: Path) -> None:
    ending = bake(lnd.root_key, NEEDED_RIGHTS, ["time-before 2099-01-01T00:00:00Z"])
    found = await told(lnd, tmp_path, LND_MACAROON=ending.hex())
    assert not found.problems
    assert ["time-before 2099-01-01T00:00:00Z" in warning.message for warning in found.warnings] == [True]


async def test_a_macaroon_of_another_node_and_one_that_is_none_are_told(lnd: LndServer, tmp_path: Path) -> None:
    other = LndServer(LndNode()).macaroon().hex()
    for macaroon, trouble in ((other, MacaroonTrouble.REFUSED), ("00ff", MacaroonTrouble.UNREADABLE)):
        assert only(await told(lnd, tmp_path, LND_MACAROON=macaroon)) == faulty(trouble)


async def test_what_no_client_could_pay_is_a_problem_and_less_than_a_large_deposit_a_warning(
    lnd: LndServer, tmp_path: Path
) -> None:
    lnd.node.remote_msat = 99_000
    assert only(await told(lnd, tmp_path))[0] == "LND_REST_URL"
    lnd.node.remote_msat = 50_000_000
    found = await told(lnd, tmp_path)
    assert not found.problems
    assert [warning.variable for warning in found.warnings] == ["LND_REST_URL"]


async def test_a_node_that_is_not_in_step_with_the_chain_is_told(lnd: LndServer, tmp_path: Path) -> None:
    lnd.node.is_synced = False
    assert "in step with the chain" in only(await told(lnd, tmp_path))[1]


async def test_a_locked_wallet_is_told_in_lnd_s_words(lnd: LndServer, tmp_path: Path) -> None:
    lnd.node.is_locked = True
    variable, message = only(await told(lnd, tmp_path))
    assert variable == "LND_REST_URL"
    assert "wallet locked" in message


async def test_each_fault_of_the_certificate_has_its_remedy(lnd: LndServer, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    contexts(other)
    at_localhost = lnd.url.replace("127.0.0.1", "localhost")
    for settings, variable, words in (
        ({CERT: str(other / "cert.pem")}, CERT, "copy its tls.cert again"),
        ({CERT: ""}, CERT, "set the path of tls.cert"),
        ({CERT: str(tmp_path / "none.pem")}, CERT, "No certificate can be read"),
        ({"LND_REST_URL": at_localhost}, "LND_REST_URL", "tlsextradomain"),
    ):
        found = only(await told(lnd, tmp_path, NEEDED_RIGHTS, True, **settings))
        assert found[0] == variable
        assert words in found[1]
    assert not lnd.asked, "no macaroon goes to a node that is not the one"


async def test_a_node_that_is_away_or_speaks_no_tls_is_told(lnd: LndServer, tmp_path: Path) -> None:
    plain = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with plain:
        port = plain.sockets[0].getsockname()[1]
        found = only(await told(lnd, tmp_path, LND_REST_URL=f"https://127.0.0.1:{port}"))
        assert found[0] == "LND_REST_URL"
    await lnd.stop()
    assert only(await told(lnd, tmp_path)) == (
        "LND_REST_URL",
        "LND does not answer: start it, set `restlisten` in lnd.conf, or mend the address.",
    )


async def test_rubbish_is_a_problem_and_no_error(lnd: LndServer, tmp_path: Path) -> None:
    lnd.is_rubbish = True
    assert only(await told(lnd, tmp_path))[0] == "LND_REST_URL"


@pytest.mark.parametrize("method", NEEDED)
async def test_each_right_is_needed_and_missed(lnd: LndServer, tmp_path: Path, method: str) -> None:
    found = await told(lnd, tmp_path, set(NEEDED_RIGHTS) - {f"uri:{method}"})
    assert only(found)[0] == "LND_MACAROON"


def test_each_trouble_has_a_sentence() -> None:
    assert LND.troubles.keys() == set(MacaroonTrouble)
    assert LND.unusable.keys() < LND.troubles.keys()


async def test_a_client_is_built_also_where_the_certificate_cannot_be_read(lnd: LndServer, tmp_path: Path) -> None:
    values = {"LND_REST_URL": lnd.url, "LND_MACAROON": lnd.macaroon().hex(), CERT: str(tmp_path / "none.pem")}
    built = LND.build(Settings(**values), spending=True, redis=None)  # type: ignore[arg-type]  # LND needs no store
    await built.close()
