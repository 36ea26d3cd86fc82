"""Routes of the operator's page. They are left out of the OpenAPI document: they are forms for one person."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ...actors.domain.errors import RefusedError, not_found
from ...actors.ports import PortError
from ..edge.fair import FairRate
from ..edge.limits import Rate, Rates
from ..pages.assets import Assets
from ..pages.html import application
from ..request.client_address import ClientAddresses
from ..request.operator import admit_operator
from ..service.health import Health
from ..state import AppState
from . import view
from .figures import SPANS, gather
from .sign_in import COOKIE, LIFE_S, SignIn, cookie_in

PATH: Final = "/operator"
_FORM_BYTES: Final = 4_096
_FORM_S: Final = 10.0
# Tries with a wrong token: five at once, then one in twenty seconds, from an address; and from all together some more.
_TRIES: Final = Rates.of(Rate(0.05, 5.0), Rate(1.0, 50.0))
_WRONG: Final = "This is not the operator's token."
_TOO_OFTEN: Final = "There were too many wrong tokens. Wait a minute, and try again."
_STALE: Final = "The page was too old for that. Please do it again from here."
_STORE_AWAY: Final = (
    "You are signed out in this browser. The store can't be reached just now: a copy of the sign-in that is elsewhere "
    "ends twelve hours after it began."
)
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_SAME_SITE: Final = frozenset({"same-origin", "none", ""})
_RETRY_S: Final = 5


class _State(Enum):
    """States of a sign-in. The store alone knows of a sign-out, and may be away."""

    HOLDS = auto()
    OVER = auto()
    UNKNOWN = auto()


class OperatorPages:
    """GET and POST below /operator."""

    def __init__(self, state: AppState, clients: ClientAddresses, health: Health, assets: Assets) -> None:
        self._state = state
        self._clients = clients
        self._health = health
        self._assets = assets
        self._sign_in = SignIn(state.settings.operator_token, state.now_ms)
        self._tries = FairRate(_TRIES) if state.settings.rate_limits else None

    @property
    def table(self) -> list[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
        """Return methods, paths and handlers."""
        return [
            ("GET", PATH, self.show),
            ("POST", f"{PATH}/sign-in", self.enter),
            ("POST", f"{PATH}/sign-out", self.leave),
            ("POST", f"{PATH}/look", self.look),
        ]

    async def show(self, request: Request) -> Response:
        """Answer GET /operator: to the cookie of a sign-in, or to the token as bearer. Raises `RefusedError` (401)."""
        if not self._sign_in.possible:
            return self._page("For the operator", view.without_token())
        if "authorization" in request.headers:
            # A program of the operator's. Without a cookie, it can send no form.
            admit_operator(request, self._state.settings.operator_token)
            return await self._dashboard(request, "")
        if self._in_the_clear(request):
            return self._page("For the operator", view.in_the_clear())
        cookie = self._cookie(request)
        match await self._sign_in_state(cookie):
            case _State.HOLDS:
                return await self._dashboard(request, self._sign_in.form_token(cookie))
            case _State.UNKNOWN:
                return await self._untold(cookie)
            case _State.OVER:
                return self._page("For the operator", view.sign_in(None))

    async def _untold(self, cookie: str) -> Response:
        """Answer while the store is away, which alone knows of a sign-out: with what `/readyz` tells strangers."""
        unreachable = await self._health.unreachable()
        told = await self._health.told(unreachable) if unreachable else ""
        body = view.untold(told, self._sign_in.form_token(cookie))
        return self._page("For the operator", body, 503, {"Retry-After": str(_RETRY_S)})

    async def _dashboard(self, request: Request, form_token: str) -> Response:
        if self._state.books is None:
            raise RefusedError(not_found("store of figures"))
        span = SPANS.get(request.query_params.get("span", ""), SPANS["24h"])
        figures = await gather(self._state, self._health, self._state.books, span)
        body = view.dashboard(figures, self._state.wallet, form_token, request.query_params.get("looked", ""))
        return self._page("Operator", body)

    async def enter(self, request: Request) -> Response:
        """Answer POST /operator/sign-in. A wrong token counts against its address."""
        sent = (await self._form(request)).get("token", "")
        now_s = asyncio.get_running_loop().time()
        origin = self._clients.known_origin(request.scope)
        if self._tries is not None and self._tries.wait_s(origin, now_s) is not None:
            return self._page("For the operator", view.sign_in(_TOO_OFTEN), 429, {"Retry-After": "60"})
        if not self._sign_in.is_token(sent):
            if self._tries is not None:
                self._tries.charge(origin, now_s)
            return self._page("For the operator", view.sign_in(_WRONG), 401)
        answer = _to_page()
        self._set_cookie(request, answer, self._sign_in.cookie(), LIFE_S)
        return answer

    async def leave(self, request: Request) -> Response:
        """Answer POST /operator/sign-out. A copy of the cookie opens nothing any more."""
        form, cookie = await self._form(request), self._cookie(request)
        if (refused := self._refused(cookie, form, await self._sign_in_state(cookie))) is not None:
            return refused
        answer = _to_page()
        if not await self._end(cookie):
            answer = self._page("For the operator", view.sign_in(_STORE_AWAY))
        self._set_cookie(request, answer, "", 0)
        return answer

    async def look(self, request: Request) -> Response:
        """Answer POST /operator/look: ask the node what became of a payout. Nothing is sent or changed."""
        form, cookie = await self._form(request), self._cookie(request)
        state = await self._sign_in_state(cookie)
        if state is _State.UNKNOWN:
            return await self._untold(cookie)
        if (refused := self._refused(cookie, form, state)) is not None:
            return refused
        if self._state.books is None:
            raise RefusedError(not_found("payout"))
        try:
            report = await self._state.books.look_again(form.get("actor", ""))
        except PortError:
            return _to_page("?looked=unreachable#payouts")
        return _to_page(f"?looked={'settled' if report is None else report.status.value}#payouts")

    def _cookie(self, request: Request) -> str:
        """Return the cookie of a sign-in that was made here, and is not too old; empty without one."""
        cookie = cookie_in(request.headers)
        return cookie if cookie is not None and self._sign_in.admits(cookie) else ""

    async def _sign_in_state(self, cookie: str) -> _State:
        if not cookie:
            return _State.OVER
        if self._state.books is None:
            return _State.HOLDS
        try:
            ended = await self._state.books.board.is_sign_in_ended(self._sign_in.name_of(cookie))
        except PortError:
            return _State.UNKNOWN
        return _State.OVER if ended else _State.HOLDS

    async def _end(self, cookie: str) -> bool:
        """End a sign-in on all fronts, and return whether the store could note it."""
        if self._state.books is None:
            return False
        try:
            board, sign_in = self._state.books.board, self._sign_in
            await board.end_sign_in(sign_in.name_of(cookie), sign_in.left_ms(cookie))
        except PortError:
            return False
        return True

    def _refused(self, cookie: str, form: dict[str, str], state: _State) -> Response | None:
        """Return the answer to a change that does not come from a form of ours; None for one that does."""
        if state is _State.OVER:
            return self._page("For the operator", view.sign_in(None), 401)
        if not self._sign_in.is_form_token(cookie, form.get("form", "")):
            return self._page("For the operator", view.sign_in(_STALE), 403)
        return None

    async def _form(self, request: Request) -> dict[str, str]:
        """Return a form's fields; none for one that is too long, too slow, or of another site."""
        if request.headers.get("sec-fetch-site", "") not in _SAME_SITE:
            return {}
        body = b""
        try:
            async with asyncio.timeout(_FORM_S):
                async for part in request.stream():
                    body += part
                    if len(body) > _FORM_BYTES:
                        return {}
        except TimeoutError:
            return {}
        try:
            return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=8))
        except ValueError:
            return {}

    def _in_the_clear(self, request: Request) -> bool:
        """Return whether anyone on the way could read the token. No browser would keep the cookie there."""
        return self._clients.scheme(request) != "https" and not self._is_loopback(request)

    @staticmethod
    def _is_loopback(request: Request) -> bool:
        return request.url.hostname in _LOOPBACK

    def _set_cookie(self, request: Request, answer: Response, value: str, life_s: int) -> None:
        secure = self._clients.scheme(request) == "https" or not self._is_loopback(request)
        answer.set_cookie(COOKIE, value, max_age=life_s, path=PATH, secure=secure, httponly=True, samesite="strict")

    def _page(self, title: str, body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        styles, own, module = (self._assets.url(name) for name in ("site.css", "operator.css", "operator.js"))
        answer = application(title, body, styles=styles, module=module, more=own, forms=True)
        answer.status_code = status
        answer.headers.update({"Cache-Control": "no-store", "X-Robots-Tag": "noindex", **(headers or {})})
        return answer


def _to_page(more: str = "") -> Response:
    return RedirectResponse(f"{PATH}{more}", status_code=303, headers={"Cache-Control": "no-store"})
