"""What holds for every credential: it allows what each of its caveats allows alone, and appending one never adds to it.

The oracle reads each caveat by itself, by the contract; the macaroons are made by pymacaroons.
"""

from __future__ import annotations

import base64

from hypothesis import example, given
from hypothesis import strategies as st
from pymacaroons import Macaroon
from pymacaroons.serializers import BinarySerializer

from satmeter.actors.domain.caveats import Action, Grant, UnknownCaveatError
from satmeter.actors.domain.macaroon import MacaroonId, mint, session_id, verify

KEY = bytes(range(32))
ID = MacaroonId("ab" * 32, session_id(bytes(range(24))), generation=1)
TIMES_S = (0, 1, 1_000, 2_000, 10**17)

numbers = st.sampled_from([0, 1, 999, 1_000, 2_000, 10**17, 10**18 - 1])
spaces = st.sampled_from(["", " ", "  "])
action_lists = st.lists(st.tuples(spaces, st.sampled_from(Action), spaces), min_size=1, max_size=7)


def _listed(parts: list[tuple[str, Action, str]]) -> str:
    return ",".join(f"{before}{action.value}{after}" for before, action, after in parts)


caveats = st.one_of(
    st.builds("actions = {}".format, st.builds(_listed, action_lists)),
    st.builds("{}{}={}{}".format, st.just("actions"), st.sampled_from(["", " "]), st.just(""), st.sampled_from(Action)),
    st.builds("expires_at = {}".format, numbers),
    st.builds("max_msat = {}".format, numbers),
    st.builds("max_msat_per_request = {}".format, numbers),
    st.builds(
        "name = {}".format, st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=9)
    ),
)


def narrowed(token: str, added: list[str]) -> str:
    """The macaroon with these caveats, as another implementation appends them."""
    macaroon = Macaroon.deserialize(base64.urlsafe_b64encode(base64.b64decode(token)).decode())
    for caveat in added:
        macaroon.add_first_party_caveat(caveat)
    return base64.standard_b64encode(BinarySerializer().serialize_raw(macaroon)).decode()


def verified(added: list[str]) -> Grant:
    """What the server reads in it."""
    return verify(KEY, narrowed(mint(KEY, ID), added))[1]


def allows(caveat: str, action: str, at_s: int) -> bool:
    """Whether this caveat alone lets the action through at this time."""
    name, _, value = caveat.partition("=")
    match name.strip():
        case "actions":
            return action in [part.strip() for part in value.split(",")]
        case "expires_at":
            return at_s < int(value)
    return True


def per_request(added: list[str]) -> int | None:
    """The lowest of the limits for each request."""
    limits = [int(caveat.split("=")[1]) for caveat in added if caveat.startswith("max_msat_per_request")]
    return min(limits, default=None)


@given(st.lists(caveats, max_size=12))
@example(["actions = read", "actions = topup", "actions = close"])
@example(["actions = read,llm", "actions = topup", "expires_at = 0", "actions = request,read,topup,close,llm"])
@example(["expires_at = 0", "expires_at = 2000"])
@example(["max_msat_per_request = 0", "max_msat_per_request = 1000"])
@example(["max_msat = 0", "max_msat = 1000"])
def test_a_credential_allows_what_each_of_its_caveats_allows_alone(added: list[str]) -> None:
    grant = verified(added)
    for action in Action:
        for at_s in TIMES_S:
            allowed = all(allows(caveat, action.value, at_s) for caveat in added)
            assert (grant.refusal(action, at_s * 1_000) is None) == allowed
    lowest = per_request(added)
    # More than all bitcoin is no limit.
    assert (None if grant.max_msat_per_request is None else grant.max_msat_per_request.value) == (
        None if lowest is None else min(lowest, 21 * 10**17)
    )


@given(st.lists(caveats, max_size=8), st.lists(caveats, min_size=1, max_size=8))
def test_what_was_refused_before_a_caveat_was_appended_is_refused_after_it(first: list[str], more: list[str]) -> None:
    for count in range(len(more)):
        wide, narrow = verified(first + more[:count]), verified(first + more[: count + 1])
        for action in Action:
            for at_s in TIMES_S:
                if wide.refusal(action, at_s * 1_000) is not None:
                    assert narrow.refusal(action, at_s * 1_000) is not None
        assert narrow.spend_limits[: len(wide.spend_limits)] == wide.spend_limits
        if wide.max_msat_per_request is not None:
            assert narrow.max_msat_per_request is not None
            assert narrow.max_msat_per_request <= wide.max_msat_per_request
        if wide.spender is not None:
            assert narrow.spender is not None and (narrow.spender + "/").startswith(wide.spender + "/")


@given(st.lists(caveats, max_size=6), st.text(max_size=40), st.lists(caveats, max_size=3))
def test_a_caveat_of_any_text_is_understood_or_ends_the_credential(
    first: list[str], text: str, more: list[str]
) -> None:
    try:
        wide, narrow = verified(first), verified([*first, text, *more])
    except (UnknownCaveatError, UnicodeEncodeError):
        return
    for action in Action:
        assert wide.refusal(action, 0) is None or narrow.refusal(action, 0) is not None
