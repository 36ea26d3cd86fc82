"""Planner of the leading server: which hosts share the partitions, which are started, which may end. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from ..partitioning import Placement
from .membership import ClusterView, Server

HOSTS_MAX: Final = 256
# A host that gives a partition away lets work there end for so long. The time is shorter when a server waits for it.
_PATIENCE_S: Final = 30.0
_LEAVING_PATIENCE_S: Final = 6.0


class Health(Enum):
    """Health of a host.

    COMING: expected to answer in a moment. AWAY: expected back. LOST: away for so long that another one takes its
    place. GONE: the process does not exist, and will not come.
    """

    ANSWERS = "answers"
    COMING = "coming"
    AWAY = "away"
    LOST = "lost"
    GONE = "gone"


_NO_USE: Final = frozenset({Health.LOST, Health.GONE})
_SILENT: Final = frozenset({Health.AWAY, Health.LOST})


class HostState(msgspec.Struct, frozen=True):
    """State of a host: its health, its node, and how many partitions it owned when it last answered."""

    health: Health
    node_id: str | None = None
    owned: int = 0


class Plan(msgspec.Struct, frozen=True):
    """Plan of what to do. `placement` is the present one when nothing is to change.

    start: hosts to be started, each with its node. end: hosts to be ended, for good.
    """

    placement: Placement
    start: Mapping[str, str]
    end: Sequence[str]


def plan(view: ClusterView, hosts: Mapping[str, HostState], prefix: str = "host-") -> Plan:
    """Return the plan that follows from the cluster as it is seen. Names of new hosts begin with the prefix.

    A host belongs on a node with a server that stays; none is started where all servers are silent. Only hosts that
    answer share partitions, but for the first ones, which are trusted to come. When no host answers, nothing moves: no
    host could take the partitions.
    """
    nodes = nodes_of(view.servers)
    if not nodes:
        return Plan(view.placement, {}, ())
    wanted = hosts_wanted(view, hosts)
    heard = _heard(view) or nodes
    staying = _staying(view, hosts, nodes, heard, wanted)
    start = _start(hosts, staying, heard, wanted, prefix)
    members = _members(view.placement, hosts, staying, start)
    ended = _ended(view, hosts, staying, members)
    there = {host_id for host_id, state in hosts.items() if state.health is not Health.GONE}
    others = tuple(sorted({*there, *staying, *start}.difference(members, ended)))
    placement = view.placement
    if (members, others) != (placement.members, placement.others):
        patience_s = _LEAVING_PATIENCE_S if any(server.leaving for server in view.servers) else _PATIENCE_S
        away = tuple(host_id for host_id in others if host_id in hosts and hosts[host_id].health in _SILENT)
        placement = Placement(placement.version + 1, members, others, away, patience_s)
    return Plan(placement, start, sorted(ended))


def nodes_of(servers: Sequence[Server]) -> dict[str, int]:
    """Return the nodes on which hosts may live, with their CPUs."""
    return {server.node_id: server.cpus for server in servers if not server.leaving}


def _heard(view: ClusterView) -> dict[str, int]:
    """Return the nodes on which hosts may live, without those whose servers are silent."""
    return nodes_of([server for server in view.servers if server.server_id not in view.silent])


def hosts_wanted(view: ClusterView, hosts: Mapping[str, HostState] | None = None) -> int:
    """Return how many hosts there should be.

    A node whose servers are silent does not count once it is known that no host is there: after a cut of all machines,
    the nodes of before are in the roster for another minute. As long as a host may be there, its place is kept.
    """
    nodes = nodes_of(view.servers)
    used = {state.node_id for state in (hosts or {}).values() if state.health is not Health.GONE}
    if hosts is not None and None not in used:
        heard = _heard(view)
        nodes = {node_id: cpus for node_id, cpus in nodes.items() if node_id in heard or node_id in used} or nodes
    count = view.hosts_wanted or sum(nodes.values())
    return max(1, min(count, HOSTS_MAX))


def _staying(
    view: ClusterView, hosts: Mapping[str, HostState], nodes: Mapping[str, int], heard: Mapping[str, int], wanted: int
) -> list[str]:
    """Return the hosts that are to go on; where there are too many, the fullest nodes give up theirs first."""
    fit = [
        host_id
        for host_id, state in sorted(hosts.items(), key=lambda item: _seniority(view.placement, *item))
        if state.health not in _NO_USE and (state.node_id is None or state.node_id in nodes)
    ]
    while len(fit) > wanted:
        fit.remove(max(reversed(fit), key=lambda host_id: _crowding(hosts, fit, nodes, hosts[host_id].node_id)))
    if len(fit) == wanted and (crowded := _misplaced(hosts, fit, nodes, heard)) is not None:
        fit.remove(crowded)
    return fit


def _seniority(placement: Placement, host_id: str, state: HostState) -> tuple[bool, bool, int, str]:
    """Return the sort key by which hosts stay: owners of partitions before newcomers, so that little moves."""
    return host_id not in placement.members, state.health is not Health.ANSWERS, len(host_id), host_id


def _crowding(
    hosts: Mapping[str, HostState], among: Sequence[str], nodes: Mapping[str, int], node_id: str | None
) -> float:
    """Return the hosts of a node for each of its CPUs."""
    if node_id is None:
        return 0.0
    return sum(hosts[host_id].node_id == node_id for host_id in among) / nodes[node_id]


def _misplaced(
    hosts: Mapping[str, HostState], fit: Sequence[str], nodes: Mapping[str, int], heard: Mapping[str, int]
) -> str | None:
    """Return a host that had better live on another node.

    Hosts move one after the other, and only while all live and answer.
    """
    if any(hosts[host_id].health is not Health.ANSWERS for host_id in fit):
        return None
    counts = {node_id: sum(hosts[host_id].node_id == node_id for host_id in fit) for node_id in nodes}
    # Nodes are judged by their state after the move: those that are equally full may differ in CPUs.
    fullest = max(counts, key=lambda node_id: ((counts[node_id] - 1) / nodes[node_id], node_id))
    emptiest = min(heard, key=lambda node_id: ((counts[node_id] + 1) / nodes[node_id], node_id))
    # The move is worth it only when the fullest is still not below the emptiest after it.
    if (counts[fullest] - 1) / nodes[fullest] < (counts[emptiest] + 1) / nodes[emptiest]:
        return None
    return next((host_id for host_id in reversed(fit) if hosts[host_id].node_id == fullest), None)


def _start(
    hosts: Mapping[str, HostState], staying: Sequence[str], nodes: Mapping[str, int], wanted: int, prefix: str
) -> dict[str, str]:
    """Return new hosts, and those that are gone and start again, each on the emptiest node."""
    counts = {node_id: sum(hosts[host_id].node_id == node_id for host_id in staying) for node_id in nodes}
    taken = {host_id for host_id, state in hosts.items() if state.health is not Health.GONE}
    names = (name for index in range(2 * HOSTS_MAX) if (name := f"{prefix}{index}") not in taken)
    start = {}
    for _ in range(wanted - len(staying)):
        node_id = min(counts, key=lambda node_id: ((counts[node_id] + 1) / nodes[node_id], node_id))
        counts[node_id] += 1
        start[next(names)] = node_id
    return start


def _members(
    placement: Placement, hosts: Mapping[str, HostState], staying: Sequence[str], start: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the hosts that share the partitions."""
    present = set(placement.members)
    trusted = {
        host_id
        for host_id in staying
        if hosts[host_id].health is Health.ANSWERS or (hosts[host_id].health is Health.COMING and host_id in present)
    }
    # A member that is started again has its partitions back in a moment; moving them twice would take longer.
    trusted |= present.intersection(start)
    if trusted:
        return tuple(sorted(trusted))
    if not present:
        return tuple(sorted({*staying, *start}))
    return placement.members


def _ended(
    view: ClusterView, hosts: Mapping[str, HostState], staying: Sequence[str], members: Sequence[str]
) -> frozenset[str]:
    """Return the hosts that are not to go on, and have nothing left to give away."""
    return frozenset(
        host_id
        for host_id, state in hosts.items()
        if host_id not in staying
        and host_id not in members
        and state.health is not Health.GONE
        # The plan without the host must be known first. Routers would otherwise look for it in vain.
        and host_id not in view.placement.members
        and (state.owned == 0 or state.health in _SILENT)
    )
