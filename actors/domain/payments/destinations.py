"""Destinations of refunds: a Lightning address, or an LNURL-pay code, by which an invoice over a sum is to be had.

Sources: LUD-01 (the code), LUD-06 (pay), LUD-16 (addresses), LUD-17 (schemes of their own).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec

from . import bolt11_codec

URL_LENGTH_MAX: Final = 2_000
"""Longest URL that an LNURL may stand for, or that its server may name."""
_LENGTH_MAX: Final = 4_096
_HUMAN_PART: Final = "lnurl"
_LNURL: Final = re.compile(r"lnurl1", re.IGNORECASE)
_SCHEME: Final = re.compile(r"lightning:(?://)?", re.IGNORECASE)
# LUD-01, "Fallback scheme", and BIP21.
_INSIDE: Final = re.compile(r"(?:https?|bitcoin):[^#]*?[?&]lightning=([^&#]+)", re.IGNORECASE)
_WEB: Final = re.compile(r"https?:", re.IGNORECASE)
_URL: Final = re.compile(r"https?://(?P<host>[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?(?:[/?][!-~]*)?", re.IGNORECASE)
# LUD-01: a code that says itself what it is for.
_TAG: Final = re.compile(r"[?&]tag=([^&#]*)")
_CHAIN: Final = "bitcoin:"
_OWN_SCHEME: Final = re.compile(r"(lnurl[pwc]|keyauth):(?://)?(.*)", re.IGNORECASE | re.DOTALL)
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ADDRESS: Final = re.compile(
    rf"(?!\.+@)[a-z0-9_.-]{{1,64}}(?:\+[a-z0-9_.+-]{{1,64}})?"
    rf"@(?P<host>localhost|(?:{_LABEL}\.)+{_LABEL})(?P<port>:[1-9][0-9]{{0,4}})?"
)
# Neither is asked by TLS: an onion service has its own encryption, and this machine none (LUD-16).
_ONION: Final = ".onion"
_THIS_MACHINE: Final = re.compile(r"localhost|127\.[0-9.]+")
_SPACE: Final = re.compile(r"\s+")
_OFFER: Final = re.compile(r"ln[ori]1", re.IGNORECASE)


class DestinationFault(StrEnum):
    """Reasons why nothing can be paid to a destination. Journals and webhooks may hold them: never rename one."""

    MALFORMED = "malformed"
    WRONG_KIND = "wrong_kind"
    OFFER = "offer"
    NOT_PUBLIC = "not_public"
    NOT_FOUND = "not_found"
    NOT_LNURL = "not_lnurl"
    REDIRECTED = "redirected"
    AMOUNT_TOO_SMALL = "amount_too_small"
    AMOUNT_TOO_LARGE = "amount_too_large"
    REFUSED = "refused"
    INVALID_INVOICE = "invalid_invoice"
    WRONG_AMOUNT = "wrong_amount"
    WRONG_DESCRIPTION = "wrong_description"
    WRONG_NETWORK = "wrong_network"


class UnfitDestinationError(ValueError):
    """A text that is not a destination. `told` says why, as a part of a sentence for the client."""

    def __init__(self, fault: DestinationFault, told: str) -> None:
        super().__init__(told)
        self.fault = fault
        self.told = told


class DestinationKind(StrEnum):
    """Kinds of destinations."""

    ADDRESS = "address"
    LNURL = "lnurl"


class Destination(msgspec.Struct, frozen=True):
    """A destination in its normal form: `name@domain`, or `lnurl1…`, both in lower case."""

    kind: DestinationKind
    text: str

    @property
    def url(self) -> str:
        """URL at which it says which sums it takes."""
        if self.kind is DestinationKind.LNURL:
            return _decoded(self.text)
        name, _, domain = self.text.rpartition("@")
        scheme = "http" if _plain(domain) else "https"
        return f"{scheme}://{domain}/.well-known/lnurlp/{name}"


def is_destination(given: str) -> bool:
    """Return True for a text that is meant as a destination rather than an invoice, whether or not it is a good one."""
    text = _inner(given)
    if text.lower().startswith(_CHAIN):
        return False
    return "@" in text or any(kind.match(text) for kind in (_LNURL, _OWN_SCHEME, _WEB, _OFFER))


def read_destination(given: str) -> Destination:
    """Return the destination that a client names. Raises `UnfitDestinationError`."""
    if len(given) > _LENGTH_MAX:
        raise _malformed("is longer than any Lightning address or LNURL")
    text = _inner(given)
    # Some letters beyond ASCII have a lower case within ASCII, and others look like one.
    if not text.isascii():
        raise _malformed("has letters that no Lightning address has; write the domain as xn--…")
    if _OFFER.match(text):
        raise UnfitDestinationError(
            DestinationFault.OFFER,
            "This is a BOLT12 text, whose payment no node here could prove; send a BOLT11 invoice or an address",
        )
    own_scheme = _OWN_SCHEME.fullmatch(text)
    if own_scheme is not None:
        return _of_scheme(own_scheme[1].lower(), own_scheme[2])
    if _WEB.match(text):
        told = "This is a web address; send the Lightning address or the LNURL that stands there"
        raise UnfitDestinationError(DestinationFault.WRONG_KIND, told)
    if _LNURL.match(text):
        return _of_url(_decoded(_one_case(_SPACE.sub("", text))))
    if _ADDRESS.fullmatch(text.lower()) is None:
        raise _malformed("is not a Lightning address, such as name@example.org")
    _refuse_onion(text.lower().rpartition("@")[2])
    return Destination(DestinationKind.ADDRESS, text.lower())


def encoded(url: str) -> str:
    """Return the LNURL of a URL, in lower case. QR codes hold it in upper case, which makes them smaller."""
    data = url.encode("ascii")
    count = bolt11_codec.words_for(8 * len(data))
    spare = count * bolt11_codec.WORD_BITS - 8 * len(data)
    return bolt11_codec.encode(_HUMAN_PART, bolt11_codec.to_words(int.from_bytes(data, "big") << spare, count))


def _inner(given: str) -> str:
    """Return the destination in a text, without what wallets put around it."""
    text = given.strip()
    inside = _INSIDE.match(text)
    text = text if inside is None else inside[1]
    return _SCHEME.sub("", text, count=1) if _SCHEME.match(text) else text


def _of_scheme(scheme: str, rest: str) -> Destination:
    if scheme != "lnurlp":
        raise _wrong_kind()
    plain = _plain(re.split(r"[/?#]", rest, maxsplit=1)[0])
    return _of_url(f"{'http' if plain else 'https'}://{rest}")


def _of_url(url: str) -> Destination:
    read = _URL.fullmatch(url)
    if read is None or len(url) > URL_LENGTH_MAX:
        raise _malformed("is an LNURL of something else than a web address")
    _refuse_onion(read["host"].lower())
    if any(tag != "payRequest" for tag in _TAG.findall(url)):
        raise _wrong_kind()
    return Destination(DestinationKind.LNURL, encoded(url))


def _decoded(lnurl: str) -> str:
    try:
        human_part, words = bolt11_codec.decode(lnurl)
        url = bolt11_codec.whole_bytes(words).decode("ascii")
    except ValueError:
        raise _malformed("is an LNURL with a letter wrong, or cut off") from None
    if human_part != _HUMAN_PART:
        raise _malformed("is an LNURL with a letter wrong, or cut off")
    return url


def _one_case(text: str) -> str:
    if text not in (text.lower(), text.upper()):
        raise _malformed("is an LNURL with upper and lower case mixed")
    return text.lower()


def _plain(domain: str) -> bool:
    return _THIS_MACHINE.fullmatch(domain.rpartition(":")[0] or domain) is not None


def _refuse_onion(host: str) -> None:
    if host.partition(":")[0].rstrip(".").endswith(_ONION):
        told = "This is an address in the Tor network, which this server does not reach; send a BOLT11 invoice"
        raise UnfitDestinationError(DestinationFault.NOT_PUBLIC, told)


def _malformed(what: str) -> UnfitDestinationError:
    return UnfitDestinationError(DestinationFault.MALFORMED, f"This {what}")


def _wrong_kind() -> UnfitDestinationError:
    told = "This LNURL is not for being paid; send a Lightning address, an LNURL-pay code or a BOLT11 invoice"
    return UnfitDestinationError(DestinationFault.WRONG_KIND, told)
