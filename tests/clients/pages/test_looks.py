"""Each state of a session at both widths, light and dark: no fault of access, nothing wider than the window.

`PAGES_SHOTS=FOLDER` keeps a picture of each, to be looked at by eye.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.clients.pages.visits import NARROW, WIDE, ScriptedModel, Visit

Visits = Callable[..., Visit]
CALLS = "**/v1/chat/completions"
_SHOTS = os.environ.get("PAGES_SHOTS")
ANSWER = """A sextant measures the **angle** between two things that you can see.

1. Your *latitude*, by the height of the sun at noon.
2. Your distance from a lighthouse whose height is known.
3. The time, by the moon's distance from a star.

```python
def latitude(height: float, declination: float) -> float:
    return 90 - height + declination  # at noon, north of the sun, where it stands in the south
```

| Use | Needs | How exact |
|---|---|---|
| Latitude | a horizon | one mile |
| Distance | a chart | a tenth of a mile |

> It has no battery that could run down. See [the manual](https://sextant.example/manual).
"""


class _Walk:
    def __init__(self, visit: Visit, name: str) -> None:
        self._visit = visit
        self._name = name
        self._steps = 0

    def stop(self, state: str) -> None:
        """Look at a state."""
        self._steps += 1
        if _SHOTS:
            file = f"{self._steps:02}-{state}-{self._name}.png"
            self._visit.page.screenshot(path=str(Path(_SHOTS) / file), full_page=True)
        self._visit.assert_accessible()
        self._visit.assert_large_enough()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, WIDE], ids=["390", "1280"])
def test_every_state_is_for_all(visit: Visits, model: ScriptedModel, width: dict[str, int], scheme: str) -> None:
    visitor = visit(viewport=width, color_scheme=scheme)
    visitor.expect_refusals(0, 429)
    walk = _Walk(visitor, f"{width['width']}-{scheme}")
    _opens(visitor, walk)
    _talks(visitor, walk, model)
    _stumbles(visitor, walk)
    _leaves(visitor, walk)


def _opens(visitor: Visit, walk: _Walk) -> None:
    page = visitor.page
    expect(visitor.button("Show the invoice")).to_be_visible()
    visitor.unfold("Prices")
    walk.stop("deposit")
    visitor.unfold("Prices")
    page.get_by_label("Another amount in sats").fill("7")
    visitor.button("Show the invoice").click()
    expect(page.get_by_role("alert")).to_be_visible()
    walk.stop("deposit-refused")
    page.get_by_label("Another amount in sats").fill("")
    visitor.button("Show the invoice").click()
    expect(visitor.button("Pay with the stub")).to_be_visible()
    page.get_by_role("img", name="QR code of the invoice").evaluate("(picture) => picture.decode()")
    walk.stop("invoice")
    visitor.button("Pay with the stub").click()
    expect(page.get_by_label("Your message")).to_be_visible()
    walk.stop("paid")


def _talks(visitor: Visit, walk: _Walk, model: ScriptedModel) -> None:
    page = visitor.page
    model.hold_stream(after_events=12)
    page.get_by_label("Your message").fill("What is a sextant good for?")
    visitor.button("Send").click()
    expect(page.get_by_text("so far")).to_be_visible()
    walk.stop("writing")
    model.let_go()
    expect(visitor.button("Send")).to_be_visible()
    model.says(ANSWER)
    visitor.ask(
        "What is a sextant good for? Please answer with a list, a piece of code and a table, as briefly as you can."
    )
    walk.stop("answer")


def _stumbles(visitor: Visit, walk: _Walk) -> None:
    page = visitor.page
    page.route(CALLS, lambda route: route.abort("connectionfailed"))
    page.get_by_label("Your message").fill("And an astrolabe?")
    visitor.button("Send").click()
    expect(visitor.button("Fetch the answer")).to_be_visible()
    walk.stop("lost")
    visitor.button("Edit the message").click()
    page.unroute(CALLS)
    refusal = json.dumps({"error": {"message": "Too many requests were sent."}, "code": "rate_limited"})
    page.route(CALLS, lambda route: route.fulfill(status=429, headers={"retry-after": "30"}, body=refusal))
    visitor.button("Send").click()
    expect(page.get_by_role("alert")).to_contain_text("Ready again")
    walk.stop("refused")
    page.unroute(CALLS)
    visitor.button("Top up").click()
    walk.stop("top-up")
    visitor.button("Show the invoice").click()
    expect(visitor.button("Pay with the stub")).to_be_visible()
    walk.stop("top-up-invoice")
    visitor.button("Not now").click()


def _leaves(visitor: Visit, walk: _Walk) -> None:
    page = visitor.page
    for name in ("Your key", "A key for a helper", "Use it in programs", "Finish, and take the rest back"):
        visitor.unfold(name)
    visitor.button("Make the key").click()
    expect(page.get_by_role("region", name="The helper\u2019s key")).to_be_visible()
    walk.stop("panels")
    visitor.button("Close, and show the code").click()
    expect(page.get_by_role("img", name="QR code to take the rest back")).to_be_visible()
    walk.stop("take-back")
    visitor.button("By address or invoice instead").click()
    visitor.button("Use an invoice of the stub").click()
    expect(page.get_by_label("Lightning address or invoice")).not_to_have_value("")
    walk.stop("take-back-by-address")
    visitor.button("Pay it back").click()
    expect(page.get_by_text("paid back.").first).to_be_visible()
    walk.stop("paid-back")
    visitor.go("/docs")
    walk.stop("docs")
