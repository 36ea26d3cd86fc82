"""Refusals of commands whose answer never came, and whose outcome may be unknown."""

from __future__ import annotations

from msgspec.structs import replace

from ..domain.behaviour import Command
from ..domain.errors import Code, Refusal, in_doubt, unavailable


def host_lost(command: Command) -> Refusal:
    """Return the refusal of a command that was sent to a host that does not answer."""
    return in_doubt() if _may_cost(command) else unavailable("The actor's host")


def after_resend(refusal: Refusal, command: Command) -> Refusal:
    """Return a refusal that is also true of a command that was sent before.

    That nothing is charged is true of this time, but unknown of the first.
    """
    if refusal.code is not Code.UNAVAILABLE or not _may_cost(command):
        return refusal
    return replace(in_doubt(), retry_after_s=refusal.retry_after_s)


def _may_cost(command: Command) -> bool:
    return command.once is not None
