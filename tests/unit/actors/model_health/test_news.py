"""News of upstreams: a model is there as long as one of those that serve it is."""

from __future__ import annotations

from satmeter.actors.domain.llm.catalogue import Catalogue
from satmeter.actors.domain.provider_faults import ModelFault
from satmeter.actors.model_health.news import UpstreamNews
from satmeter.actors.model_health.outage import ModelCache, ModelWait, Stage
from tests.helpers.model_boards import START_MS, Clock, FakeBoard, outage
from tests.helpers.upstreams import entry, upstream

BOTH, ONE = entry("both", "a", "b", upstream_model="there"), entry("one", "b")
WAIT = ModelWait(ModelFault.LIMITED, START_MS + 9_000)


class Scene:
    """Two upstreams; the server works with a model of both, and one of the second alone."""

    def __init__(self, *own: str) -> None:
        self.clock, self.a, self.b = Clock(), FakeBoard(), FakeBoard()
        catalogue = Catalogue((BOTH, ONE), (upstream("a"), upstream("b")))
        caches = {"a": ModelCache(self.a, self.clock.monotonic_s), "b": ModelCache(self.b, self.clock.monotonic_s)}
        self.news = UpstreamNews(catalogue, caches, own or ("both", "one"), self.clock.now_ms)

    async def down(self, model: str | None = None) -> bool:
        self.clock.now_s += 0.2
        return (await self.news.current(0.1, model)).down(self.clock.now_ms()) is not None


async def test_a_model_is_away_when_all_its_upstreams_are() -> None:
    scene = Scene()
    assert not await scene.down("both")
    scene.a.outage = outage()
    assert not await scene.down("both") and not await scene.down("one") and not await scene.down()
    scene.b.outage = outage()
    assert await scene.down("both") and await scene.down("one") and await scene.down()


async def test_the_server_s_own_models_must_all_be_there() -> None:
    scene = Scene()
    scene.b.outage = outage()
    assert not await scene.down("both") and await scene.down()
    other = Scene("both")
    other.b.outage = outage()
    assert not await other.down()


async def test_the_outage_that_ends_first_is_told() -> None:
    scene = Scene()
    scene.a.outage, scene.b.outage = outage(until_ms=START_MS + 7_000), outage(until_ms=START_MS + 3_000)
    found = await scene.news.current(model="both")
    assert found.outage == scene.b.outage
    scene.b.outage, scene.clock.now_s = outage(Stage.TRIAL, until_ms=START_MS + 60_000), 1.1
    assert (await scene.news.current(model="both")).outage == scene.b.outage, "a trial is better than an outage"


async def test_a_wait_counts_only_if_each_upstream_asks_for_one_or_is_away() -> None:
    scene = Scene()
    scene.a.waits = {"there": WAIT, "one": WAIT}
    assert (await scene.news.current(model="both")).wait("both", START_MS) is None
    scene.b.outage, scene.clock.now_s = outage(), 1.1
    assert (await scene.news.current(model="both")).wait("both", START_MS + 1_100) == WAIT
    assert (await scene.news.current(model="one")).waits == {}


async def test_a_model_that_is_not_in_the_catalogue_is_taken_for_there() -> None:
    scene = Scene()
    scene.a.outage = scene.b.outage = outage()
    assert not await scene.down("other")
