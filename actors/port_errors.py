"""Errors of the ports: adapters turn their libraries' errors into these; `ports` exports them beside the protocols."""

from __future__ import annotations

from typing import Final

from .domain.payments.destinations import DestinationFault
from .domain.provider_faults import ModelFault


class PortError(Exception):
    """Failure of something outside. The text is for the operator's log, never for a client.

    `upstream`: the one that failed, where the error is of a call to a model.
    """

    upstream: str | None = None


class TransientError(PortError):
    """Failure that may pass (overloaded, unreachable, slow, unreadable answer): the same call may succeed later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(PortError):
    """Refusal for a reason that repeating the call does not change."""


class DestinationError(PermanentError):
    """Refusal of a refund's destination, or of a sum by it. `told` is a sentence for its client, without a full stop.

    Nothing was paid, and no payment is under way. The destination may be good another day, as its server may be mended.
    bound_sats: the least or the most that it takes, for an amount beyond that.
    """

    def __init__(self, fault: DestinationFault, told: str, bound_sats: int | None = None) -> None:
        super().__init__(f"{fault.value}: {told}")
        self.fault = fault
        self.told = told
        self.bound_sats = bound_sats


class MissingModelError(PermanentError):
    """Refusal of a call by a provider that does not have the model, or is at another address. Nothing was done."""


class NotCountedError(PermanentError):
    """Refusal to count a prompt by a provider that does not count."""


class RefusedRequestError(PermanentError):
    """Refusal of the model to answer this very request, which would meet any caller."""


class SilentError(PermanentError):
    """Silence of the model provider: it took a call and then sent no byte for too long.

    Sent again, the call would be bought twice.
    """


class ModelError(TransientError):
    """Failure of the model provider to answer; `fault` says why.

    `answered`: it answered with an error before anything else, so that it bills nothing. `taken`: it may bill the call,
    also where `fault` speaks of the provider as a whole.
    """

    def __init__(
        self,
        message: str,
        fault: ModelFault,
        retry_after_s: float | None = None,
        *,
        answered: bool = False,
        taken: bool = False,
    ) -> None:
        super().__init__(message, retry_after_s)
        self.fault = fault
        self.answered = answered
        self.taken = taken


class HeldBackError(ModelError):
    """Call to the model provider that was not made: the provider is known to be away, or asked for a wait."""


class LeftError(HeldBackError):
    """Call whose client left before it was made: no upstream has it, and none is asked any more."""


class ToldError(TransientError):
    """Break of a stream whose last bytes, which were passed on, say so."""


def told(error: BaseException) -> dict[str, str]:
    """Return what the log says of an error, as fields."""
    upstream = error.upstream if isinstance(error, PortError) else None
    return {"error": str(error)} if upstream is None else {"error": str(error), "upstream": upstream}


# Faults by which a provider says that it did not take the call.
_NOT_TAKEN: Final = frozenset(
    {ModelFault.UNREACHABLE, ModelFault.REFUSED, ModelFault.LIMITED, ModelFault.OVERLOADED, ModelFault.UNAVAILABLE}
)


def did_nothing(error: PortError) -> bool:
    """Return whether a provider certainly did not work on the call that failed so, and bills nothing for it."""
    if isinstance(error, ModelError):
        return error.answered or (not error.taken and error.fault in _NOT_TAKEN)
    return isinstance(error, MissingModelError | NotCountedError)


class FencedError(PortError):
    """Mismatch of the partition's epoch and the writer's: nothing was written, and the writer's copy of it is void.

    `current_epoch` is the stored one. Above the writer's, another host took over; below, the store lost writes.
    """

    def __init__(self, current_epoch: int) -> None:
        super().__init__(f"the partition is at epoch {current_epoch}")
        self.current_epoch = current_epoch


class ConflictError(PortError):
    """Mismatch of the journal's version and the expected one: the writer's copy of this actor is void."""
