from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satmeter.actors.domain.credentials.caveats import (
    Action,
    CaveatError,
    Grant,
    SpendLimit,
    UnknownCaveatError,
    narrow,
)
from satmeter.actors.domain.credentials.macaroon import (
    InvalidMacaroonError,
    MacaroonId,
    OversizedMacaroonError,
    attenuate,
    mint,
    narrowed,
    read,
    session_id,
    verify,
)
from satmeter.actors.domain.credentials.periods import Period
from satmeter.actors.domain.errors import Code
from satmeter.actors.domain.money import MSAT_MAX, Msat

KEY = bytes(range(32))
ID = MacaroonId("ab" * 32, session_id(bytes(range(24))), generation=1)
NOW_MS = 1_800_000_000_000

# The example of L402's macaroon-spec.md, under a root key of 32 zero bytes.
GOLDEN_IDENTIFIER = bytes.fromhex(
    "0000163102a9c88fa4ec9ac9937b6f070bc3e27249a81ad7a05f398ac5d7d16f7bea"
    "fed74b3ef24820f440601eff5bfb42bef4d615c4948cec8aca3cb15bd23f1013"
)
GOLDEN_CAVEATS = (
    b"services=lightning_loop:0",
    b"lightning_loop_capabilities=loop_out,loop_in",
    b"loop_out_monthly_volume_sats=200000000",
)
GOLDEN_SIGNATURE = "22a5bd6ce419c5b238cb650b936a30db383cbb89a150107ba0989c066282fcd1"
GOLDEN_TOKEN = (
    "AgEEbHNhdAJCAAAWMQKpyI+k7JrJk3tvBwvD4nJJqBrXoF85isXX0W976v7XSz7ySCD0QGAe/1v7Qr701hXElIzsiso8sVvSPxATAAIZc2Vydmlj"
    "ZXM9bGlnaHRuaW5nX2xvb3A6MAACLGxpZ2h0bmluZ19sb29wX2NhcGFiaWxpdGllcz1sb29wX291dCxsb29wX2luAAImbG9vcF9vdXRfbW9udGhs"
    "eV92b2x1bWVfc2F0cz0yMDAwMDAwMDAAAAYgIqW9bOQZxbI4y2ULk2ow2zg8u4mhUBB7oJicBmKC/NE="
)


def by_hand(key: bytes, location: bytes, identifier: bytes, caveats: tuple[bytes, ...]) -> tuple[str, bytes]:
    """A macaroon made without any library: signature chain and V2 layout as the paper and go-macaroon have them."""
    signature = hmac.digest(hmac.digest(b"macaroons-key-generator", key, "sha256"), identifier, "sha256")
    data = bytes([2, 1, len(location)]) + location + bytes([2, len(identifier)]) + identifier + b"\0"
    for caveat in caveats:
        signature = hmac.digest(signature, caveat, "sha256")
        data += bytes([2, len(caveat)]) + caveat + b"\0"
    return signature.hex(), data + b"\0" + bytes([6, 32]) + signature


def test_two_implementations_agree_on_the_example_of_the_specification() -> None:
    signature, data = by_hand(bytes(32), b"lsat", GOLDEN_IDENTIFIER, GOLDEN_CAVEATS)
    assert signature == GOLDEN_SIGNATURE
    assert base64.standard_b64encode(data).decode() == GOLDEN_TOKEN
    bare = base64.standard_b64encode(by_hand(bytes(32), b"lsat", GOLDEN_IDENTIFIER, ())[1]).decode()
    assert attenuate(bare, [caveat.decode() for caveat in GOLDEN_CAVEATS]) == GOLDEN_TOKEN
    macaroon_id, caveats = read(GOLDEN_TOKEN)
    assert macaroon_id.payment_hash == GOLDEN_IDENTIFIER[2:34].hex()
    assert [caveat.encode() for caveat in caveats] == list(GOLDEN_CAVEATS)


def test_ours_is_what_the_other_implementation_makes_of_the_same_key() -> None:
    key = hmac.digest(KEY, f"{ID.session_id}:1".encode(), hashlib.sha256)
    identifier = b"\0\0" + bytes.fromhex(ID.payment_hash) + bytes(range(24)) + (1).to_bytes(8, "big")
    assert len(identifier) == 66
    assert mint(KEY, ID) == base64.standard_b64encode(by_hand(key, b"satmeter", identifier, ())[1]).decode()


def test_a_fresh_macaroon_allows_everything_and_says_which_session_it_is_of() -> None:
    assert verify(KEY, mint(KEY, ID)) == (ID, Grant(generation=1))


def test_all_caveats_are_understood_and_the_narrower_of_two_counts() -> None:
    token = attenuate(
        mint(KEY, ID),
        [
            "expires_at = 2000",
            "expires_at = 3000",
            "max_msat_per_request = 50",
            "max_msat_per_request = 70",
            "actions = request,read,llm",
            "actions = read,topup",
            "name = writer",
            "name = helper",
        ],
    )
    _, grant = verify(KEY, token)
    assert grant.expires_at_s == 2_000
    assert grant.max_msat_per_request == Msat(50)
    assert grant.actions == {Action.READ}
    assert grant.spender == "writer/helper"


def test_what_is_derived_from_a_credential_shares_its_spend_counter_and_siblings_do_not() -> None:
    parent = attenuate(mint(KEY, ID), ["max_msat = 500"])
    child = attenuate(parent, ["name = a", "max_msat = 100"])
    sibling = attenuate(mint(KEY, ID), ["name = b", "max_msat = 500"])
    (limit,) = verify(KEY, parent)[1].spend_limits
    first, second = verify(KEY, child)[1].spend_limits
    (other,) = verify(KEY, sibling)[1].spend_limits
    assert first == limit == SpendLimit(limit.counter, Msat(500))
    assert second.limit_msat == Msat(100)
    assert len({limit.counter, second.counter, other.counter}) == 3


@pytest.mark.parametrize("texts", [("max_msat = 5", "max_msat = 6"), ("max_msat = 5", "max_msat=5")])
def test_siblings_with_the_same_parent_have_counts_of_their_own(texts: tuple[str, str]) -> None:
    for parent in (mint(KEY, ID), attenuate(mint(KEY, ID), ["max_msat = 9"])):
        counters = {verify(KEY, attenuate(parent, [text]))[1].spend_limits[-1].counter for text in texts}
        assert len(counters) == 2


@pytest.mark.parametrize(
    "caveat",
    [
        "max_sats = 5",
        "max_msat = -5",
        "max_msat = 5.0",
        "max_msat = ",
        "expires_at = tomorrow",
        "actions = request,everything",
        "actions = ",
        "name = ",
        "name = " + "x" * 65,
        "services=lightning_loop:0",
        "nonsense",
        "MAX_MSAT = 5",
    ],
)
def test_a_caveat_that_is_not_known_is_refused_and_never_skipped(caveat: str) -> None:
    with pytest.raises(UnknownCaveatError) as refused:
        verify(KEY, attenuate(mint(KEY, ID), [caveat]))
    assert refused.value.caveat == caveat[:100]


def test_a_limit_above_all_bitcoin_is_no_error() -> None:
    _, grant = verify(KEY, attenuate(mint(KEY, ID), ["max_msat = 999999999999999999"]))
    assert grant.spend_limits[0].limit_msat == Msat(min(999_999_999_999_999_999, MSAT_MAX))


def test_an_expired_credential_and_a_forbidden_action_name_the_caveat() -> None:
    _, grant = verify(KEY, attenuate(mint(KEY, ID), ["expires_at = 1800000000", "actions = read"]))
    late = grant.refusal(Action.READ, NOW_MS)
    assert late is not None and late.code is Code.CAVEAT_VIOLATED
    assert late.details == {"caveat": "expires_at = 1800000000"}
    assert grant.refusal(Action.READ, NOW_MS - 1) is None
    forbidden = grant.refusal(Action.CLOSE, NOW_MS - 1)
    assert forbidden is not None and forbidden.details == {"caveat": "actions = read"}


def test_encodings_that_clients_make_of_it_are_read() -> None:
    token = mint(KEY, ID)
    for form in (token.rstrip("="), token.replace("+", "-").replace("/", "_")):
        assert verify(KEY, form)[0] == ID


@pytest.mark.parametrize(
    "other",
    [
        MacaroonId("cd" * 32, ID.session_id, 1),
        MacaroonId(ID.payment_hash, session_id(bytes(24)), 1),
        MacaroonId(ID.payment_hash, ID.session_id, 2),
    ],
)
def test_no_part_of_the_identifier_can_be_exchanged(other: MacaroonId) -> None:
    ours, theirs = (base64.b64decode(mint(KEY, macaroon_id)) for macaroon_id in (ID, other))
    forged = base64.b64encode(theirs[:-32] + ours[-32:]).decode()
    with pytest.raises(InvalidMacaroonError):
        verify(KEY, forged)


def test_another_servers_macaroon_is_refused() -> None:
    with pytest.raises(InvalidMacaroonError):
        verify(KEY, mint(secrets.token_bytes(32), ID))


def test_a_caveat_cannot_be_taken_off() -> None:
    narrow = base64.b64decode(attenuate(mint(KEY, ID), ["max_msat = 5"]))
    bare = base64.b64decode(mint(KEY, ID))
    with pytest.raises(InvalidMacaroonError):
        verify(KEY, base64.b64encode(bare[:-32] + narrow[-32:]).decode())


@pytest.mark.parametrize("length", [0, 1, 10, 66, 100, 114])
def test_a_truncated_macaroon_is_refused(length: int) -> None:
    whole = base64.b64decode(mint(KEY, ID))
    with pytest.raises(InvalidMacaroonError):
        verify(KEY, base64.b64encode(whole[:length]).decode())


def test_garbage_of_any_length_is_refused() -> None:
    for garbage in ("", "x", "=" * 100, "A" * 10_000, "é", GOLDEN_TOKEN[::-1], "Ag" + "A" * 8_000):
        with pytest.raises(InvalidMacaroonError):
            verify(KEY, garbage)


@pytest.mark.parametrize("caveat", [b"\xff\xfe", b"name = \xe9", b"\xed\xa0\x80"])
def test_a_caveat_that_is_no_text_is_refused_though_its_signature_is_right(caveat: bytes) -> None:
    fresh = base64.b64decode(mint(KEY, ID))
    # The signature stands last; what a holder appends is signed with it.
    unsigned, signature = fresh[:-35], fresh[-32:]
    appended = unsigned + bytes([2, len(caveat)]) + caveat + b"\0"
    narrowed = appended + b"\0" + bytes([6, 32]) + hmac.digest(signature, caveat, "sha256")
    with pytest.raises(InvalidMacaroonError):
        verify(KEY, base64.b64encode(narrowed).decode())


@pytest.mark.parametrize("caveats", [["max_msat = 5"] * 65, [f"name = {'n' * 60}"] * 60 + ["name = " + "n" * 64] * 30])
def test_so_many_caveats_that_checking_them_is_work_are_refused(caveats: list[str]) -> None:
    with pytest.raises(OversizedMacaroonError, match="at most 64 caveats and 8192 characters"):
        verify(KEY, attenuate(mint(KEY, ID), caveats))
    with pytest.raises(OversizedMacaroonError):
        narrowed(mint(KEY, ID), caveats)


def test_a_limit_that_is_not_the_narrowest_can_never_bind_and_has_no_count() -> None:
    token = attenuate(mint(KEY, ID), [f"max_msat = {msat}" for msat in (70, 90, 70, 50, 60, 50, 49)])
    assert [limit.limit_msat.value for limit in verify(KEY, token)[1].spend_limits] == [70, 50, 49]


def test_a_credential_has_only_so_many_counts() -> None:
    eight = attenuate(mint(KEY, ID), [f"max_msat = {msat}" for msat in range(8, 0, -1)] + ["max_msat = 1"])
    assert len(verify(KEY, eight)[1].spend_limits) == 8
    for refuse in (lambda: verify(KEY, attenuate(eight, ["max_msat = 0"])), lambda: narrowed(eight, ["max_msat = 0"])):
        with pytest.raises(CaveatError, match="at most 8 caveats max_msat and max_msat_per") as refused:
            refuse()
        assert refused.value.caveat == "max_msat = 0" and not isinstance(refused.value, UnknownCaveatError)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("max_msat_per = 50000/day", SpendLimit("c", Msat(50_000), Period.DAY)),
        ("max_msat_per=0/hour", SpendLimit("c", Msat(0), Period.HOUR)),
        ("max_msat_per = 007/week", SpendLimit("c", Msat(7), Period.WEEK)),
        ("max_msat_per = 999999999999999999/day", SpendLimit("c", Msat(999_999_999_999_999_999), Period.DAY)),
    ],
)
def test_a_budget_that_renews_is_a_limit_with_a_period(text: str, limit: SpendLimit) -> None:
    assert narrow(Grant(1), text.encode(), "c").spend_limits == (limit,)


@pytest.mark.parametrize(
    "value",
    [
        *("5", "5/", "/day", "5/month", "5/Day", "5/days", "5 / day", "5/day ", " 5/day", "-5/day", "5.0/day"),
        *("5/day/day", "5/day,6/hour", "1000000000000000000/day", "٣/day", "5/day\n"),
    ],
)
def test_a_budget_that_is_written_otherwise_is_refused(value: str) -> None:
    for text in (f"max_msat_per = {value}", f"max_msat_per_day = {value}"):
        with pytest.raises(UnknownCaveatError):
            narrow(Grant(1), text.encode(), "c")


def test_of_two_budgets_both_count_unless_one_of_them_can_never_bind() -> None:
    def counting(*texts: str) -> list[str]:
        return [limit.caveat for limit in verify(KEY, attenuate(mint(KEY, ID), list(texts)))[1].spend_limits]

    day, hour, week = "max_msat_per = 9/day", "max_msat_per = 5/hour", "max_msat_per = 20/week"
    assert counting(day, hour, week) == [day, hour, week]
    assert counting(day, "max_msat_per = 9/day", "max_msat_per = 10/day") == [day]
    assert counting("max_msat_per = 10/day", day) == ["max_msat_per = 10/day", day]
    # As little in a day is never more in an hour of it, but it may be in a week.
    assert counting(day, "max_msat_per = 9/hour", "max_msat_per = 9/week") == [day, "max_msat_per = 9/week"]
    assert counting("max_msat = 9", day, hour, week) == ["max_msat = 9", hour]
    assert counting(hour, "max_msat = 5", "max_msat = 4") == [hour, "max_msat = 5", "max_msat = 4"]


def test_a_credential_knows_those_that_it_was_derived_from_and_no_signature() -> None:
    parent = attenuate(mint(KEY, ID), ["name = a"])
    child = attenuate(parent, ["expires_at = 5"])
    sibling = attenuate(mint(KEY, ID), ["name = b"])
    whole, one, two, other = (verify(KEY, token)[1].lineage for token in (mint(KEY, ID), parent, child, sibling))
    assert whole == ("0",) and one[:1] == whole and two[:2] == one and len({*two, *other}) == 4
    signature = base64.b64decode(child)[-32:]
    assert not any(tag in (signature.hex(), base64.urlsafe_b64encode(signature).decode()) for tag in two)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_be_refused(data: bytes) -> None:
    for text in (base64.b64encode(data).decode(), base64.b64encode(b"\2" + data).decode()):
        with pytest.raises(InvalidMacaroonError):
            verify(KEY, text)


@given(
    st.lists(
        st.sampled_from(["max_msat = 7", "max_msat_per = 7/day", "actions = read", "name = x", "expires_at = 99"]),
        max_size=6,
    )
)
def test_appending_never_widens(caveats: list[str]) -> None:
    token = mint(KEY, ID)
    _, wide = verify(KEY, token)
    for caveat in caveats:
        token = attenuate(token, [caveat])
        _, narrow = verify(KEY, token)
        assert narrow.spend_limits[: len(wide.spend_limits)] == wide.spend_limits
        assert wide.actions is None or (narrow.actions is not None and narrow.actions <= wide.actions)
        assert wide.expires_at_s is None or (narrow.expires_at_s or 0) <= wide.expires_at_s
        wide = narrow
