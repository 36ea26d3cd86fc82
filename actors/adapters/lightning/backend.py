"""Row of the table of Lightning backends: what a backend needs, how it is built and checked, and its words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import httpx
from redis.asyncio import Redis

from ....config.lightning_kind import LightningKind
from ....config.named_settings import is_set
from ....config.problem import Problem
from ....config.settings import Settings
from ...domain.payments.routing_fees import RoutingFees
from ...ports import Lightning


@dataclass(frozen=True, slots=True)
class Probed:
    """Result of a probe.

    problems: what forbids `satmeter check` to be well, and in production the start, but for those of the address: the
    server waits for a node that is away. away: the node did not answer, which matters where the address is the key,
    too. warnings: what is only told. proofs: sentences on what was shown to work.
    """

    problems: Sequence[Problem] = ()
    warnings: Sequence[Problem] = ()
    proofs: Sequence[str] = ()
    away: bool = False


Place = Callable[[Settings], str]
"""Says where the backend is, for the operator, without secrets."""

Addresses = Callable[[Settings], Sequence[str]]
"""Returns the addresses that stand within a backend's secret; none for a secret that can't be read."""


class Build(Protocol):
    """Builder of a node's client."""

    def __call__(self, settings: Settings, *, spending: bool, redis: Redis) -> Lightning:
        """Build the client, without connecting yet; with the key that spends, or one that can't.

        `redis` is the store, in which the stub node lives. Raises `ElsewhereError` in a process that does not hold the
        key.
        """
        ...


class Probe(Protocol):
    """Probe of a backend before money moves."""

    def __call__(self, settings: Settings, http: httpx.AsyncClient, *, may_order: bool) -> Awaitable[Probed]:
        """Return what is wrong and what was shown to work. It pays nothing, and raises nothing.

        `may_order`: an invoice may be made, which is shown to no client and lapses. `http` follows no redirects.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Lightning backend.

    variables: its settings by their environment names, the first of which says where it is. needed: of those without
    which it can't be used, the sentence to the operator when they are missing. pays_with: the secret without which
    nothing is paid out. asks_with: a key that can't spend, which hosts hold; without one the treasury makes all
    invoices. keeps_owner: the node keeps an actor's id with a payment; else `OwnedPayments` stands around the client.
    troubles: a sentence for each code of `Lightning.trouble`. unusable: for those with which no invoice works either,
    words for the middle of a sentence. fees: the rule for the reserve of a payout. payouts_at_once: the orders
    that its client sends at the same time. hidden_addresses: those that its secret names, and no setting.
    """

    kind: LightningKind
    title: str
    variables: tuple[str, ...]
    needed: Mapping[str, str]
    place: Place
    build: Build
    probe: Probe
    fees: RoutingFees
    keeps_owner: bool
    pays_with: str | None
    asks_with: str | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)
    unusable: Mapping[str, str] = field(default_factory=dict)
    payouts_at_once: int = 1
    hidden_addresses: Addresses = field(default=lambda _: ())
    stub: bool = False

    @property
    def address(self) -> str:
        """Environment name of the setting that says where it is; "" for the stub."""
        return self.variables[0] if self.variables else ""

    def given(self, settings: Settings) -> list[str]:
        """Return those of its variables that are set."""
        return [variable for variable in self.variables if is_set(settings, variable)]

    def can_pay(self, settings: Settings) -> bool:
        """Return whether refunds can be paid out, as far as the settings say."""
        return self.pays_with is None or is_set(settings, self.pays_with)
