"""Connection to a Nostr relay (NIP-01, NIP-42): one subscription, which comes back by itself after a break."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from ....config.log_context import in_background
from ...ports import TransientError
from .nostr import Identity, RawEvent, Signed

_log = structlog.get_logger(__name__)

# A page of a wallet's payments is below 64 kB in the newer encryption. The older one has no bound of its own.
_MESSAGE_MAX_BYTES: Final = 1_048_576
_CLOSE_TIMEOUT_S: Final = 1.0
_PING_S: Final = 20.0
_BACKOFF_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
# A connection that stood for less long counts as a failure: some relays take everybody in and put them out at once.
_STEADY_S: Final = 5.0
_SUBSCRIPTION: Final = "satmeter"
_REASON_MAX_CHARS: Final = 100


class Listener(Protocol):
    """Listener to relays. Each call names the relay."""

    def came(self, relay: Relay, event: RawEvent) -> None:
        """Take an event, of which nothing is verified."""
        ...

    def refused(self, relay: Relay, event_id: str, reason: str) -> None:
        """Learn that the relay did not take an event of ours."""
        ...

    def ready(self, relay: Relay) -> None:
        """Learn that the subscription stands: stored events have come, and no later one is missed."""
        ...

    def lost(self, relay: Relay) -> None:
        """Learn that the connection broke, after it had been ready."""
        ...


class Relay:
    """Connection to a relay, made when it is first wanted, and made again, with pauses, until it is closed.

    `filters` are those of the subscription, asked for at each connection.
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        listener: Listener,
        filters: Callable[[], Sequence[Mapping[str, Any]]],
        *,
        open_timeout_s: float,
    ) -> None:
        self.address = address
        self._identity = identity
        self._listener = listener
        self._filters = filters
        self._open_timeout_s = open_timeout_s
        self._socket: ClientConnection | None = None
        self._asked_for: Sequence[Mapping[str, Any]] = ()
        self._run: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()
        self._attempt: asyncio.Future[bool] | None = None
        self._is_away = False

    @property
    def is_ready(self) -> bool:
        """True while the subscription stands."""
        return self._socket is not None

    @property
    def is_new(self) -> bool:
        """True until the first attempt begins."""
        return self._run is None

    async def connected(self) -> bool:
        """Return whether the connection stands, after an attempt that this call begins or joins."""
        if self.is_ready:
            return True
        if self._run is None:
            self._run = in_background(self._keep())
        if self._attempt is None:
            self._attempt = asyncio.get_running_loop().create_future()
        self._nudge.set()
        return await asyncio.shield(self._attempt)

    async def send(self, event: Signed) -> bool:
        """Send an event; False when the connection is broken. Nothing is kept for a later one."""
        socket = self._socket
        if socket is None:
            return False
        try:
            if any(
                now.get("since", 0) < then.get("since", 0)
                for now, then in zip(self._filters(), self._asked_for, strict=True)
            ):
                # Our clock was set back. With the former time the relay would keep answers from us, as too old.
                await socket.send(self._ask())
            await socket.send(f'["EVENT",{event.json}]')
        except (WebSocketException, OSError):
            return False
        return True

    async def close(self) -> None:
        """End the connection."""
        run, self._run = self._run, None
        if run is not None:
            run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await run
        self._tell_attempt(connected=False)

    async def _keep(self) -> None:
        failures = 0
        while True:
            self._nudge.clear()
            stood_s = await self._once()
            self._tell_attempt(connected=False)
            if stood_s >= _STEADY_S:
                failures = 0
                continue
            failures += 1
            pause_s = _BACKOFF_S[min(failures, len(_BACKOFF_S)) - 1]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudge.wait(), pause_s)

    async def _once(self) -> float:
        """Connect, and listen until the connection breaks. Return for how long the subscription stood."""
        loop = asyncio.get_running_loop()
        ready_at_s: float | None = None
        try:
            async with connect(
                self.address,
                open_timeout=self._open_timeout_s,
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                max_size=_MESSAGE_MAX_BYTES,
            ) as socket:
                async with asyncio.timeout(self._open_timeout_s):
                    await self._subscribe(socket)
                ready_at_s = loop.time()
                self._socket = socket
                self._is_away = False
                self._listener.ready(self)
                self._tell_attempt(connected=True)
                await self._listen(socket)
        except (WebSocketException, OSError, TimeoutError, TransientError, ValueError) as error:
            self._tell_break(error, is_news=ready_at_s is not None)
        finally:
            self._socket = None
            if ready_at_s is not None:
                self._listener.lost(self)
        return 0.0 if ready_at_s is None else loop.time() - ready_at_s

    def _tell_break(self, error: Exception, *, is_news: bool) -> None:
        """Log a break, and of a relay that is away only the first try."""
        if is_news or not self._is_away:
            # The text of some errors holds the address, which may name an account at the relay.
            host = urlsplit(self.address).hostname
            _log.warning("relay_connection_broke", relay=host, error_type=type(error).__name__)
        self._is_away = True

    def _ask(self) -> str:
        """Return the words that ask for the events, in the place of those that were asked for before."""
        self._asked_for = self._filters()
        return msgspec.json.encode(["REQ", _SUBSCRIPTION, *self._asked_for]).decode()

    async def _subscribe(self, socket: ClientConnection) -> None:
        """Ask for the events, and wait until the stored ones have come."""
        ask = self._ask()
        await socket.send(ask)
        challenge: str | None = None
        async for text in socket:
            match _read(text):
                case ["EOSE", str(), *_]:
                    return
                case ["AUTH", str(word), *_]:
                    challenge = word
                    await socket.send(f'["AUTH",{self._identity.authentication(self.address, word).json}]')
                    await socket.send(ask)
                # A relay that asks who we are closes what was asked for before it knew.
                case ["CLOSED", str(), *_] if challenge is None:
                    raise TransientError("the relay closed the subscription")
                case other:
                    self._take(other)
        raise TransientError("the relay closed the connection")

    async def _listen(self, socket: ClientConnection) -> None:
        async for text in socket:
            message = _read(text)
            match message:
                case ["AUTH", str(word), *_]:
                    await socket.send(f'["AUTH",{self._identity.authentication(self.address, word).json}]')
                case ["CLOSED", str(), *_]:
                    raise TransientError("the relay closed the subscription")
                case _:
                    self._take(message)

    def _take(self, message: Sequence[Any]) -> None:
        match message:
            case ["EVENT", str(), dict(raw), *_]:
                with contextlib.suppress(msgspec.ValidationError):
                    self._listener.came(self, msgspec.convert(raw, RawEvent))
            case ["OK", str(event_id), False, *rest]:
                self._listener.refused(self, event_id, str(rest[0])[:_REASON_MAX_CHARS] if rest else "")

    def _tell_attempt(self, *, connected: bool) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.done():
            attempt.set_result(connected)


def _read(text: str | bytes) -> Sequence[Any]:
    """Return a message as a list; an empty one for text that is not a message."""
    try:
        message = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return []
    return message if isinstance(message, list) else []
