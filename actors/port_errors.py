"""Errors of the ports: adapters turn their libraries' errors into these; `ports` exports them beside the protocols."""

from __future__ import annotations

from .domain.llm.provider_faults import ModelFault


class PortError(Exception):
    """Something outside failed. The text is for the operator's log, never for a client."""


class TransientError(PortError):
    """Overloaded, unreachable, slow or answering rubbish: the same call may succeed later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(PortError):
    """Refused for a reason that repeating the call does not change."""


class RefusedRequestError(PermanentError):
    """The model would not answer this very request, whoever asked it."""


class SilentError(PermanentError):
    """The model provider took a call and then sent no byte for too long. Sent again, the call would be bought twice."""


class ModelError(TransientError):
    """The model provider gave no answer; `fault` says why."""

    def __init__(self, message: str, fault: ModelFault, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.fault = fault


class HeldBackError(ModelError):
    """The model provider was not called: it is known to be away, or has asked for a wait that is not over."""


class ToldError(TransientError):
    """A stream broke off, and its last bytes, which were passed on, say so."""


class FencedError(PortError):
    """The partition's epoch is not the writer's: nothing was written, and what the writer holds of it is void.

    `current_epoch` is the stored one. Above the writer's, another host took over; below, the store lost writes.
    """

    def __init__(self, current_epoch: int) -> None:
        super().__init__(f"the partition is at epoch {current_epoch}")
        self.current_epoch = current_epoch


class ConflictError(PortError):
    """The journal is not at the version that the writer expected: what it holds of this actor is void."""
