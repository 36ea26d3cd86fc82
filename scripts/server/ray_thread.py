"""Thread for Ray's start: it blocks, for long on a busy machine, and signals must be handled meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from ...actors import cluster
from ...config.settings import Settings
from .start_messages import StartError, patiently

T = TypeVar("T")
_ANSWERS_WITHIN_S: Final = 60.0
_CONNECTS_WITHIN_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.5
_JOINS_WITHIN_S: Final = 90.0


class RayThread:
    """A thread that starts or joins Ray, and then stays: Ray's processes end with the thread that started them."""

    def __init__(self) -> None:
        self._starting: asyncio.Future[None] | None = None

    async def run(self, start: Callable[[], T]) -> T:
        """Call the function in the thread, and return its result or raise its exception."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._running = True

        def settle(result: T | None, error: BaseException | None) -> None:
            self._running = False
            if not done.done():
                if error is None:
                    done.set_result(result)  # type: ignore[arg-type]
                else:
                    done.set_exception(error)

        def work() -> None:
            result, error = None, None
            try:
                result = start()
            except BaseException as raised:
                error = raised
                if not isinstance(raised, Exception):  # Ray may raise SystemExit.
                    error = StartError(f"Ray gave up ({type(raised).__name__}).")
            with contextlib.suppress(RuntimeError):  # The event loop has ended meanwhile.
                loop.call_soon_threadsafe(settle, result, error)
            threading.Event().wait()

        threading.Thread(target=work, daemon=True, name="ray").start()
        return await done

    def leave(self, leave: Callable[[], None]) -> None:
        """Call `leave` to end Ray, unless it is still starting: Ray must not be used from two threads at once."""
        if not self._running:
            leave()

    _running = False


async def until_ray_answers(address: str, tell: Callable[[str], None]) -> None:
    """Wait for a Ray that may be just starting. Raises `StartError`. Forms that only Ray can resolve are skipped."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    deadline_s, told = time.monotonic() + _ANSWERS_WITHIN_S, False
    while True:
        try:
            async with asyncio.timeout(_CONNECTS_WITHIN_S):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
            return
        except OSError as error:  # A TimeoutError as well.
            why = error.strerror or type(error).__name__
        if time.monotonic() > deadline_s:
            raise StartError(
                f"No Ray answers at {address} ({why}): start it by `ray start`, or mend RAY_ADDRESS or --ray-address."
            )
        if not told:
            tell(f"No Ray answers at {address} yet ({why}): waiting {_ANSWERS_WITHIN_S:.0f} s for it …")
            told = True
        await asyncio.sleep(_LOOK_EVERY_S)


async def join_ray(thread: RayThread, settings: Settings, namespace: str, tell: Callable[[str], None]) -> None:
    """Join the cluster that the settings name. Raises `StartError`."""
    address = str(settings.ray_address)
    joining = thread.run(lambda: cluster.join(address, namespace, settings.ray_node_ip))
    try:
        async with asyncio.timeout(_JOINS_WITHIN_S):
            await patiently(joining, f"Joining Ray at {address}", tell)
    except TimeoutError:
        why = f"it did not answer within {_JOINS_WITHIN_S:.0f} s"
    except StartError as error:
        why = str(error)
    except Exception as error:
        # Ray raises errors of many kinds, some with texts of many lines.
        why = str(error).strip().partition("\n")[0] or type(error).__name__
    else:
        return
    raise StartError(f"Can't join the Ray cluster at {address}: run `ray start` on this machine first. ({why})")
