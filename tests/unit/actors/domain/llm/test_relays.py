"""Bodies of relayed calls."""

from __future__ import annotations

import hashlib

from satmeter.actors.domain.llm.relays import RelayBody

DATA = b'{"max_tokens":500}'
BODY = RelayBody(DATA, 500, 14, 17)


def test_the_digest_is_of_what_the_client_sent_whatever_goes_on() -> None:
    sent = b'{ "max_tokens": 900 }'
    assert BODY.digest == BODY.made_of(DATA).digest == hashlib.sha256(DATA).digest()
    assert BODY.made_of(DATA) is BODY
    made = BODY.made_of(sent)
    assert made.digest == hashlib.sha256(sent).digest()
    assert made.data == DATA and made.lowered(7) == b'{"max_tokens":7}'
