"""OpenAPI document of a server with default settings, without a server. Run this module to print it as JSON."""

from __future__ import annotations

import sys
from typing import Any, Final, cast

import msgspec

from ..config.settings import Settings
from ..http.app import endpoints, metrics_of
from ..http.openapi.document import build
from ..http.state import AppState

# Nothing is called while the routes are described, and no key is in the document.
_NOT_CALLED: Final = cast(Any, object())
_NO_KEY: Final = bytes(32)


def document() -> dict[str, Any]:
    """Return the document, with the paths of the stub node."""
    state = AppState(
        settings=Settings(),
        router=_NOT_CALLED,
        prices=_NOT_CALLED,
        solvency=_NOT_CALLED,
        limits=_NOT_CALLED,
        destinations=_NOT_CALLED,
        stub_node=_NOT_CALLED,
        checks={},
        id_key=_NO_KEY,
        macaroon_key=_NO_KEY,
        receipt_key=_NO_KEY,
        webhook_key=_NO_KEY,
        withdraw_key=_NO_KEY,
        pay_page_key=_NO_KEY,
    )
    return build(endpoints(state, metrics_of(state)))


def main() -> None:
    """Print the document."""
    sys.stdout.buffer.write(msgspec.json.encode(document()))


if __name__ == "__main__":
    main()
