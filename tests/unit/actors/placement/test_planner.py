"""Plans of the leading server for hosts, as a pure function; following them brings any cluster to rest."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satmeter.actors.partitioning import NO_PLACEMENT, Placement
from satmeter.actors.placement.membership import ClusterView, Server
from satmeter.actors.placement.planner import Health, HostState, Plan, hosts_wanted, nodes_of, plan


def server(node_id: str, cpus: int = 1, *, leaving: bool = False) -> Server:
    return Server(f"server on {node_id}", node_id, "127.0.0.1:1", cpus, "key", leaving)


def view(
    *servers: Server,
    placement: Placement = NO_PLACEMENT,
    wanted: int | None = None,
    silent: Collection[str] = (),
) -> ClusterView:
    """The cluster as it is seen; `silent`: nodes whose servers are."""
    ids = [server.server_id for server in servers if server.node_id in silent]
    return ClusterView(True, wanted, placement, servers, ids)


def answers(node_id: str, owned: int = 10) -> HostState:
    return HostState(Health.ANSWERS, node_id, owned)


TWO = Placement(3, ("host-0", "host-1"))


def test_the_first_hosts_are_members_before_they_answer_so_that_nothing_moves_twice() -> None:
    first = plan(view(server("a", 2)), {})
    assert first.start == {"host-0": "a", "host-1": "a"}
    assert first.placement.members == ("host-0", "host-1") and first.placement.version == 1


def test_nothing_changes_in_a_cluster_at_rest() -> None:
    seen = view(server("a", 2), placement=TWO)
    assert plan(seen, {"host-0": answers("a"), "host-1": answers("a")}) == Plan(TWO, {}, [])


def test_a_host_that_does_not_answer_leaves_the_members_and_comes_back_when_it_does() -> None:
    seen = view(server("a", 2), placement=TWO)
    without = plan(seen, {"host-0": answers("a"), "host-1": HostState(Health.AWAY, "a", 10)}).placement
    assert (without.members, without.others, without.away) == (("host-0",), ("host-1",), ("host-1",))
    seen = view(server("a", 2), placement=without)
    back = plan(seen, {"host-0": answers("a"), "host-1": answers("a", 0)}).placement
    assert back.members == ("host-0", "host-1") and back.version == TWO.version + 2


def test_when_nobody_answers_nothing_moves() -> None:
    seen = view(server("a", 2), placement=TWO)
    away = HostState(Health.AWAY, "a", 10)
    assert plan(seen, {"host-0": away, "host-1": away}).placement is TWO


def test_a_member_that_is_expected_in_a_moment_stays_one() -> None:
    seen = view(server("a", 2), placement=TWO)
    coming = HostState(Health.COMING, "a")
    assert plan(seen, {"host-0": answers("a"), "host-1": coming}).placement is TWO


def test_a_new_host_gets_partitions_only_when_it_answers() -> None:
    seen = view(server("a", 3), placement=TWO)
    hosts = {"host-0": answers("a"), "host-1": answers("a")}
    more = plan(seen, hosts)
    assert more.start == {"host-2": "a"}
    assert more.placement.members == TWO.members and more.placement.others == ("host-2",)
    seen = view(server("a", 3), placement=more.placement)
    assert plan(seen, {**hosts, "host-2": HostState(Health.COMING, "a")}).placement is more.placement
    assert "host-2" in plan(seen, {**hosts, "host-2": answers("a", 0)}).placement.members


def test_a_host_is_ended_only_when_it_has_given_everything_away() -> None:
    seen = view(server("a", 2), placement=TWO, wanted=1)
    hosts = {"host-0": answers("a"), "host-1": answers("a")}
    fewer = plan(seen, hosts)
    assert fewer.placement.members == ("host-0",) and fewer.end == []
    seen = view(server("a", 2), placement=fewer.placement, wanted=1)
    assert plan(seen, hosts).end == []
    last = plan(seen, {**hosts, "host-1": answers("a", owned=0)})
    assert last.end == ["host-1"] and last.placement.others == ()


def test_hosts_of_a_node_whose_server_leaves_give_away_and_others_start_elsewhere() -> None:
    seen = view(server("a", leaving=True), server("b"), placement=TWO)
    hosts = {"host-0": answers("a"), "host-1": answers("b")}
    moved = plan(seen, hosts)
    assert moved.placement.members == ("host-1",) and moved.placement.others == ("host-0",)
    assert moved.placement.patience_s < 10
    seen = view(server("a", leaving=True), server("b"), placement=moved.placement)
    assert plan(seen, {**hosts, "host-0": answers("a", owned=0)}).end == ["host-0"]


def test_when_all_servers_leave_nothing_is_moved_about() -> None:
    seen = view(server("a", leaving=True), placement=TWO)
    assert plan(seen, {"host-0": answers("a"), "host-1": answers("a")}) == Plan(TWO, {}, ())


def test_hosts_that_are_gone_are_started_again_under_their_names_and_keep_their_place() -> None:
    seen = view(server("a", 2), placement=TWO)
    gone = HostState(Health.GONE)
    again = plan(seen, {"host-0": gone, "host-1": gone})
    assert again.start == {"host-0": "a", "host-1": "a"} and again.placement is TWO


def test_a_host_that_is_lost_is_ended_and_another_takes_its_place() -> None:
    seen = view(server("a", 2), placement=TWO)
    hosts = {"host-0": answers("a"), "host-1": HostState(Health.LOST, "a", 10)}
    replaced = plan(seen, hosts)
    assert replaced.start == {"host-2": "a"} and "host-1" not in replaced.placement.members
    assert plan(view(server("a", 2), placement=replaced.placement), hosts).end == ["host-1"]


def test_new_hosts_go_to_the_emptiest_node_by_its_cpus() -> None:
    start = plan(view(server("a", 1), server("b", 3)), {}).start
    assert sorted(start.values()) == ["a", "b", "b", "b"]


def test_a_node_that_joins_takes_over_hosts_of_the_fullest_one() -> None:
    members = ("host-0", "host-1", "host-2", "host-3")
    seen = view(server("a", 2), server("b", 2), placement=Placement(1, members), wanted=4)
    moved = plan(seen, {host_id: answers("a") for host_id in members})
    assert len(moved.placement.members) == 3 and list(moved.start.values()) == ["b"]


def test_of_equally_full_nodes_the_one_with_more_cpus_gives_a_host_away() -> None:
    # One host on one CPU (c) and two on two (a) are equally full; only a host of a's is better off on b.
    seen = view(
        server("a", 2), server("b", 2), server("c", 1), placement=Placement(3, ("host-0", "host-1", "host-2")), wanted=3
    )
    hosts = {"host-0": answers("a"), "host-1": answers("a"), "host-2": answers("c")}
    assert list(plan(seen, hosts).start.values()) == ["b"]


def test_the_operators_number_counts_and_else_that_of_the_cpus() -> None:
    assert hosts_wanted(view(server("a", 2), server("b", 3))) == 5
    assert hosts_wanted(view(server("a", 2), wanted=7)) == 7
    assert hosts_wanted(view(server("a", 2, leaving=True), server("b", 3))) == 3


# Nodes whose servers are silent


def test_after_a_cut_of_all_machines_no_host_is_awaited_on_the_nodes_of_before() -> None:
    members = ("host-0", "host-1", "host-2", "host-3")
    seen = view(server("a", 2), server("b", 2), server("c", 2), placement=Placement(3, members), silent=("a", "b"))
    gone = dict.fromkeys(members, HostState(Health.GONE))
    again = plan(seen, gone)
    assert again.start == {"host-0": "c", "host-1": "c"}
    assert again.placement.members == ("host-0", "host-1") and again.placement.others == ()
    # The other machine is there again, too.
    more = view(server("c", 2), server("d", 2), *seen.servers[:2], placement=again.placement, silent=("a", "b"))
    there = {"host-0": answers("c"), "host-1": answers("c")}
    assert plan(more, there).start == {"host-2": "d", "host-3": "d"}


@pytest.mark.parametrize("wanted", [None, 2])
def test_hosts_that_answer_where_a_server_is_silent_stay_as_they_are(wanted: int | None) -> None:
    seen = view(server("a"), server("b"), placement=TWO, wanted=wanted, silent=("b",))
    assert plan(seen, {"host-0": answers("a"), "host-1": answers("b")}) == Plan(TWO, {}, [])


@pytest.mark.parametrize("node_id", ["b", None])
def test_the_place_of_a_host_that_is_away_is_kept_while_its_server_is_silent(node_id: str | None) -> None:
    """A leader that is new does not know where it was."""
    seen = view(server("a"), server("b"), placement=TWO, silent=("b",))
    todo = plan(seen, {"host-0": answers("a"), "host-1": HostState(Health.AWAY, node_id, 10)})
    assert (todo.start, todo.end) == ({}, [])
    assert (todo.placement.members, todo.placement.others) == (("host-0",), ("host-1",))


def test_no_host_moves_to_a_node_whose_server_is_silent() -> None:
    placement = Placement(1, ("host-0", "host-1", "host-2", "host-3"))
    seen = view(server("a", 2), server("b", 2), placement=placement, wanted=4, silent=("b",))
    assert plan(seen, {host_id: answers("a") for host_id in placement.members}) == Plan(placement, {}, [])


def test_a_host_that_is_lost_is_not_started_where_the_server_is_silent() -> None:
    seen = view(server("a"), server("b"), placement=TWO, silent=("b",))
    replaced = plan(seen, {"host-0": answers("a"), "host-1": HostState(Health.LOST, "b", 10)})
    assert replaced.start == {"host-2": "a"}


class Cluster:
    """A cluster that does what the plan says: hosts come up, take what they are to have, and end."""

    def __init__(self, servers: list[Server], wanted: int | None, silent: Collection[str]) -> None:
        self.servers = servers
        self.wanted = wanted
        self.silent = silent
        self.placement = NO_PLACEMENT
        self.nodes: dict[str, str] = {}
        self.owners: set[str] = set()
        self.up: set[str] = set()

    def step(self) -> bool:
        """One round; False when nothing was left to be done."""
        names = {*self.placement.members, *self.placement.others}
        seen = view(*self.servers, placement=self.placement, wanted=self.wanted, silent=self.silent)
        todo = plan(seen, {host_id: self._state(host_id) for host_id in names})
        before = (self.placement, dict(self.nodes), set(self.up), set(self.owners))
        self.up |= set(self.nodes)
        self.placement = todo.placement
        self.nodes.update(todo.start)
        heard = nodes_of(self.servers).keys() - set(self.silent)
        assert not heard or heard.issuperset(todo.start.values())
        for host_id in todo.end:
            assert host_id not in self.owners or host_id not in self.placement.members
            del self.nodes[host_id]
            self.up.discard(host_id)
        # Members that are up take over; then the others have nothing left.
        if (serving := self.up & set(self.placement.members)) and serving == set(self.placement.members):
            self.owners = serving
        return before != (self.placement, self.nodes, self.up, self.owners)

    def _state(self, host_id: str) -> HostState:
        if host_id not in self.nodes:
            return HostState(Health.GONE)
        if host_id not in self.up:
            return HostState(Health.COMING, self.nodes[host_id])
        return HostState(Health.ANSWERS, self.nodes[host_id], int(host_id in self.owners))

    def settle(self) -> None:
        for _ in range(100):
            if not self.step():
                return
        raise AssertionError("the cluster does not come to rest")


Change = tuple[list[Server], int | None, Collection[str]]
NODE_IDS = ("a", "b", "c")
SERVERS = st.lists(
    st.builds(server, st.sampled_from(NODE_IDS), st.integers(1, 4), leaving=st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda s: s.node_id,
)
SILENT = st.just(()) | st.sets(st.sampled_from(NODE_IDS))
CHANGES = st.lists(st.tuples(SERVERS, st.none() | st.integers(1, 9), SILENT), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(CHANGES)
def test_whatever_servers_come_and_go_the_cluster_comes_to_rest_in_balance(
    changes: list[Change],
) -> None:
    cluster = Cluster(*changes[0])
    for servers, wanted, silent in changes:
        cluster.servers, cluster.wanted, cluster.silent = servers, wanted, silent
        cluster.settle()
        nodes = nodes_of(servers)
        if not nodes or silent:
            continue
        members = cluster.placement.members
        assert len(members) == hosts_wanted(view(*servers, wanted=wanted))
        assert set(cluster.nodes) == set(members) and not cluster.placement.others
        counts = {node_id: sum(cluster.nodes[m] == node_id for m in members) for node_id in nodes}
        assert sum(counts.values()) == len(members)
        for full, empty in [(f, e) for f in nodes for e in nodes if f != e]:
            assert (counts[full] - 1) / nodes[full] < (counts[empty] + 1) / nodes[empty]
