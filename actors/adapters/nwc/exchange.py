"""Exchange with a wallet by NIP-47: a request goes to all relays at once, and its answer is the first that fits.

An answer counts only when the wallet has signed it and it names the request, which is new for each question. So answers
that come late, twice, from other keys, for other requests, or out of a relay's store find no one that waits.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from ...ports import PermanentError, TransientError
from .connection import read_connection
from .nostr import Encryption, Identity, Kind, RawEvent, answered_requests, body, encryptions
from .relay import Relay

# Clocks of wallets may be wrong. A relay gives us no event that is older than this, by the clock of the wallet.
_CLOCK_MARGIN_S: Final = 3_600
# From then on wallets should leave an order alone. Later than any answer is waited for, sooner than we give it up.
_ORDER_LIVES_S: Final = 120
# A request goes to the relays that are there. At the first one, those that connect more slowly are waited for.
_OTHERS_WAIT_S: Final = 0.5
_NOTICES_MAX: Final = 1_000
# Questions of which answers are known when they come, the last ones: those of more than ten minutes.
_ASKED_MAX: Final = 10_000
_UNSUPPORTED_ENCRYPTION: Final = "UNSUPPORTED_ENCRYPTION"
_GONE: Final = "the relay's connection broke"


class WalletError(msgspec.Struct, frozen=True):
    """Error in a wallet's answer; its code is one of NIP-47's, or the wallet's own."""

    code: str | None = None
    message: str | None = None


class Answer(msgspec.Struct, frozen=True):
    """Wallet's answer: a result, or an error."""

    result: Any = None
    error: WalletError | None = None


class _ToldError(msgspec.Struct, frozen=True):
    """Error as it comes. Wallets built with `applesauce-wallet-connect` name its code `type`."""

    code: str | None = None
    type: str | None = None
    message: str | None = None


class _Response(msgspec.Struct, frozen=True):
    result_type: str | None = None
    result: Any = None
    error: _ToldError | None = None


class Notice(msgspec.Struct, frozen=True):
    """Notification of a wallet, which it sends unasked."""

    notification_type: str
    notification: Any = None


class _Pending:
    """A question under way: for which method, and over which relays it went."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.relays: set[Relay] = set()
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def without(self, relay: Relay, why: str) -> None:
        """Forget a relay; without any left, no answer will come."""
        self.relays.discard(relay)
        if not self.relays and not self.answer.done():
            self.answer.set_exception(TransientError(f"the wallet can't be reached: {why}"))


class Exchange:
    """Questions to a wallet, and its notifications. A question has `timeout_s`, its wait for a connection included.

    `url` is the connection URL. What is wrong with it, or a library that is missing, is a `PermanentError` of each
    question: a server that is started without them says so, and does not end.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        clock_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._opened: Identity | None = None
        self._relays: Sequence[Relay] = ()
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._monotonic_s = monotonic_s
        self._pending: dict[str, _Pending] = {}
        self._info: RawEvent | None = None
        self._asked_at_s: dict[str, float] = {}
        self._wallet_seen_at_s: dict[Relay, float] = {}
        self._listeners: set[asyncio.Queue[Notice | None]] = set()
        self._heard_since_s: float | None = None
        self._encryption: Encryption | None = None

    @property
    def _identity(self) -> Identity:
        """The identity of this connection, made when it is first needed. Raises `PermanentError`."""
        if self._opened is None:
            try:
                connection = read_connection(self._url)
            except ValueError as error:
                raise PermanentError(f"NWC_URL can't be read: {error}") from None
            self._opened = identity = Identity(connection)
            self._relays = [
                Relay(address, identity, self, self._filters, open_timeout_s=self._timeout_s)
                for address in connection.relays
            ]
        return self._opened

    async def ask(self, method: str, params: Mapping[str, Any], *, is_order: bool = False) -> Answer:
        """Send a request, once to each relay that is connected, and return the wallet's answer.

        `is_order`: it is marked so that it is not carried out much later. Raises `TransientError` when no answer comes,
        which says nothing of what the wallet did, and `PermanentError` when nothing can be asked.
        """
        pending = _Pending(method)
        request_id: str | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                relays = await self._connected()
                expires_at_s = int(self._clock_s()) + _ORDER_LIVES_S if is_order else None
                request = self._identity.request(body(method, params), self._preferred(), expires_at_s)
                request_id = request.id
                self._pending[request_id] = pending
                self._remember(request_id)
                pending.relays.update(relays)
                for relay in relays:
                    if not await relay.send(request):
                        pending.without(relay, _GONE)
                return self._usable(await pending.answer, method)
        except TimeoutError:
            raise TransientError("the wallet did not answer in time") from None
        finally:
            if request_id is not None:
                del self._pending[request_id]
            if pending.answer.done() and not pending.answer.cancelled():
                pending.answer.exception()

    async def notices(self) -> AsyncIterator[Notice]:
        """Yield the wallet's notifications. Raises `TransientError` when a relay's connection breaks."""
        queue: asyncio.Queue[Notice | None] = asyncio.Queue(_NOTICES_MAX)
        event = await self.info()
        self._listeners.add(queue)
        if event is not None and event.tagged("notifications") and self._heard_since_s is None:
            self._heard_since_s = self._monotonic_s()
        try:
            while (notice := await queue.get()) is not None:
                yield notice
            raise TransientError(f"notifications may have been missed: {_GONE}")
        finally:
            self._listeners.discard(queue)
            if not self._listeners:
                self._heard_since_s = None

    def hears_since_s(self) -> float | None:
        """Return since when a listener has heard all that the wallet pushed; None without one, or where it pushes none.

        The time is that of `monotonic_s`.
        """
        return self._heard_since_s

    async def info(self) -> RawEvent | None:
        """Return the wallet's info event, None where no relay has one. Raises `TransientError`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connected()
        except TimeoutError:
            raise TransientError("the relay did not answer in time") from None
        return self._info

    def seen_everywhere_since(self, at_s: float) -> bool:
        """Return whether the wallet has answered, over each of the relays, a question since this time of `monotonic_s`.

        What a relay has kept, and gives out again, is not the wallet's voice.
        """
        return all(self._wallet_seen_at_s.get(relay, at_s - 1) >= at_s for relay in self._relays)

    async def close(self) -> None:
        """End all connections; those who wait for an answer get a `TransientError`."""
        for relay in self._relays:
            await relay.close()
        for pending in list(self._pending.values()):
            if not pending.answer.done():
                pending.answer.set_exception(TransientError("the connection to the wallet was ended"))

    # What relays say: see `Listener`.

    def came(self, relay: Relay, event: RawEvent) -> None:
        """Take an event of the wallet's; leave any other alone."""
        if event.kind == Kind.INFO:
            if (self._info is None or event.created_at > self._info.created_at) and self._identity.is_of_wallet(event):
                self._info = event
                self._encryption = None
            return
        if event.kind not in (Kind.RESPONSE, Kind.NOTICE, Kind.LEGACY_NOTICE):
            return
        if not self._identity.is_of_wallet(event):
            return
        if event.kind == Kind.RESPONSE:
            self._hear(relay, event)
            self._take_answer(event)
        else:
            self._take_notice(event)

    def refused(self, relay: Relay, event_id: str, reason: str) -> None:
        """Give up the relay for this request."""
        pending = self._pending.get(event_id)
        if pending is not None:
            pending.without(relay, f"the relay refused: {reason}")

    def ready(self, relay: Relay) -> None:
        """Do nothing: callers that wait for the connection learn it from the relay."""

    def lost(self, relay: Relay) -> None:
        """Tell all who waited for something over this relay."""
        self._heard_since_s = None
        for pending in list(self._pending.values()):
            if relay in pending.relays:
                pending.without(relay, _GONE)
        for queue in self._listeners:
            _put(queue, None)

    def _remember(self, request_id: str) -> None:
        self._asked_at_s[request_id] = self._monotonic_s()
        if len(self._asked_at_s) > _ASKED_MAX:
            del self._asked_at_s[next(iter(self._asked_at_s))]

    def _hear(self, relay: Relay, event: RawEvent) -> None:
        """Note when the question was asked that the wallet answers over this relay: it was there later than that."""
        for request_id in answered_requests(event):
            asked_at_s = self._asked_at_s.get(request_id)
            if asked_at_s is not None:
                self._wallet_seen_at_s[relay] = max(asked_at_s, self._wallet_seen_at_s.get(relay, asked_at_s))

    def _take_answer(self, event: RawEvent) -> None:
        for request_id in answered_requests(event):
            pending = self._pending.get(request_id)
            if pending is None or pending.answer.done():
                continue
            try:
                answer = _answer(self._identity.decrypted(event), pending.method)
            except ValueError as error:
                pending.answer.set_exception(TransientError(f"the wallet answered rubbish: {error}"))
            else:
                pending.answer.set_result(answer)

    def _take_notice(self, event: RawEvent) -> None:
        try:
            notice = msgspec.json.decode(self._identity.decrypted(event), type=Notice)
        except (ValueError, RecursionError):
            return
        for queue in self._listeners:
            _put(queue, notice)

    def _filters(self) -> Sequence[Mapping[str, Any]]:
        return [
            {
                "kinds": [Kind.RESPONSE, Kind.LEGACY_NOTICE, Kind.NOTICE],
                "authors": [self._identity.wallet],
                "#p": [self._identity.public_key],
                "since": int(self._clock_s()) - _CLOCK_MARGIN_S,
            },
            {"kinds": [Kind.INFO], "authors": [self._identity.wallet]},
        ]

    async def _connected(self) -> Sequence[Relay]:
        """Return the relays that are connected; without any, after one attempt at each. Raises `PortError`."""
        _ = self._identity
        found = [relay for relay in self._relays if relay.is_ready]
        tried = [relay for relay in self._relays if not relay.is_ready and (relay.is_new or not found)]
        if tried:
            attempts = [asyncio.ensure_future(relay.connected()) for relay in tried]
            try:
                await asyncio.wait(attempts, timeout=_OTHERS_WAIT_S if found else None, return_when=FIRST_COMPLETED)
                # One relay that is slow must not hold up what another one can carry, but gets its chance.
                await asyncio.wait(attempts, timeout=_OTHERS_WAIT_S)
                if not any(relay.is_ready for relay in self._relays):
                    await asyncio.wait(attempts)
            finally:
                for attempt in attempts:
                    attempt.cancel()
            found = [relay for relay in self._relays if relay.is_ready]
        if not found:
            raise TransientError("no relay of the wallet can be reached")
        return found

    def _preferred(self) -> Encryption:
        if self._encryption is None:
            offered = encryptions(self._info) if self._info is not None else frozenset({Encryption.NIP04})
            self._encryption = Encryption.NIP44 if Encryption.NIP44 in offered else Encryption.NIP04
        return self._encryption

    def _usable(self, answer: Answer, method: str) -> Answer:
        """Return the answer. After one about the encryption, the next question comes in the other one."""
        if answer.error is not None and answer.error.code == _UNSUPPORTED_ENCRYPTION:
            other = Encryption.NIP04 if self._encryption is Encryption.NIP44 else Encryption.NIP44
            self._encryption = other
            raise TransientError(f"the wallet could not read {method}: the next try is in {other}")
        return answer


def _answer(text: str, method: str) -> Answer:
    """Return an answer to this method. Raises `ValueError` for a text that is not one."""
    try:
        response = msgspec.json.decode(text, type=_Response)
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("not the expected JSON") from None
    if response.error is not None:
        # Some wallets name no method in an error.
        if response.result_type not in (None, "", method):
            raise ValueError("an error of another method")
        return Answer(error=WalletError(response.error.code or response.error.type, response.error.message))
    if response.result_type != method:
        raise ValueError("an answer of another method")
    return Answer(result=response.result)


def _put(queue: asyncio.Queue[Notice | None], notice: Notice | None) -> None:
    """Add a notice; where too many wait already, leave it out. A sweep finds what it would have told."""
    if not queue.full():
        queue.put_nowait(notice)
