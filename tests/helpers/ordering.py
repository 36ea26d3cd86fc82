"""Which tests a worker of xdist takes together, and which come first: what takes long must not begin last.

The tests of a file stay together, in their order. So do those of files that share a server of the whole session, which
each worker that had one of them would start again; the server ends with the last of them, as one that only stands there
takes a twentieth of a core. Simulations share nothing: they fill what time is left at the end.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer  # type: ignore[import-untyped]
    from xdist.scheduler.loadscope import LoadScopeScheduling  # type: ignore[import-untyped]

# By the server, ours or LNbits, that they share.
_TOGETHER: Final = {
    "the shared server": ("test_chat", "test_serve", "test_sessions"),
    "the clients' server": ("test_ask", "test_generated", "test_mcp", "test_python_client", "clients/test_readme"),
    "LNbits": (
        "test_lnbits_wallet",
        "cluster/test_lnbits",
        "cluster/test_load",
        "test_node_faults",
        "cluster/test_readme_clients",
        "contract/test_lightning",
        "contract/test_lnbits_keys",
        "contract/test_payouts",
    ),
    "the pages' server": (
        "pages/test_docs_site",
        "pages/test_endings",
        "pages/test_engines",
        "pages/test_job_troubles",
        "pages/test_jobs",
        "pages/test_looks",
        "pages/test_lost_answers",
        "pages/test_odd_browsers",
        "pages/test_operator",
        "pages/test_pay_page",
        "pages/test_session",
        "pages/test_rests",
        "pages/test_top_ups",
        "pages/test_troubles",
    ),
    "llama.cpp": ("cluster/test_llamacpp", "contract/test_llamacpp_chat"),
}
# Fixtures of the whole session that end with the last test of what is taken together: all that run servers. Of
# Playwright, an event loop runs in the main thread while there is a browser, where tests of asyncio begin their own.
_ENDING: Final = ("server", "lnbits_server", "lnbits", "llama", "model", "site", "browser")
_SERVED: Final = ("tests/cluster/", "tests/clients/", "tests/contract/")
_UNITS: Final = {f"{name}.py": unit for unit, names in _TOGETHER.items() for name in names}
# What takes longest, the longest first, as measured.
_FIRST: Final = (
    *_TOGETHER,
    "tests/cluster/test_nodes.py",
    "tests/cluster/test_dedicated_faults.py",
    "tests/cluster/test_model_away.py",
    "tests/cluster/test_faults.py",
    "tests/cluster/test_custody.py",
    "tests/property/session_machine/test_session_machine.py",
    "tests/api/test_schema_fuzz.py",
    "tests/unit/scripts/audit/test_auditor_damage.py",
    "tests/unit/scripts/audit/test_auditor.py",
    "tests/unit/actors/host/test_host.py",
    "tests/unit/actors/host/test_handover.py",
)
_RANKS: Final = {unit: rank for rank, unit in enumerate(_FIRST)}
_SIMULATIONS: Final = "tests/simulation/"
_SEEDS: Final = "test_no_seed_breaks_a_promise"


def unit_of(nodeid: str) -> str:
    """The name of what goes to a worker as a whole."""
    file = nodeid.partition("::")[0]
    if file.startswith(_SIMULATIONS):
        return nodeid
    if file.startswith(_SERVED):
        for name, unit in _UNITS.items():
            if file.endswith(f"/{name}"):
                return unit
    return file


def rank_of(nodeid: str) -> int:
    """Return the rank of a test's unit: less is earlier."""
    if nodeid.startswith(_SIMULATIONS):
        return len(_FIRST) + (1 if _SEEDS in nodeid else 2)
    return _RANKS.get(unit_of(nodeid), len(_FIRST))


# After pytest has brought the tests together that share a parameter of a fixture.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts first what takes long."""
    items.sort(key=lambda item: rank_of(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None]:
    """Ends the servers that the tests before the next one have shared."""
    yield
    if nextitem is not None and unit_of(nextitem.nodeid) != unit_of(item.nodeid):
        for fixture in _running(item):
            # Those that use it end with it, before it does.
            fixture.finish(item._request)  # type: ignore[attr-defined]


def _running(item: pytest.Item) -> list[pytest.FixtureDef[Any]]:
    # Not noted by `pytest_fixture_setup`: for fixtures of the session, pytest calls that of no conftest below the root.
    manager = item.session._fixturemanager
    named = [fixture for name in _ENDING for fixture in manager.getfixturedefs(name, item) or ()]
    return [fixture for fixture in named if fixture.scope == "session" and fixture.cached_result is not None]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Gives out whole units, in the order of the collection."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class Units(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    # xdist would put first the units that have the most tests.
    config.option.loadscopereorder = False
    return Units(config, log)
