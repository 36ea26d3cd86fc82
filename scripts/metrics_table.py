"""Table of all metrics in docs/operating.md, made from the metrics themselves. Run this module to update the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry

from ..actors.bootstrap import build_metrics
from ..actors.metrics.host import Load
from ..actors.metrics.totals import LIBRARY_PREFIX, PROCESSES
from ..actors.model_health.outage import ModelUp
from ..config.settings import Settings
from ..http.metrics import Metrics
from .marked_part import insert_part

PAGE: Final = "docs/operating.md"


class Exposed(NamedTuple):
    """A metric as Prometheus gets it. `name`: of its samples, but for the suffixes of a histogram's."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def exposed() -> list[Exposed]:
    """Return all metrics of a server: those of a host, then those of a front, each once."""
    host = build_metrics(Settings())
    host.watch(lambda: Load({}, 0, 0, 0))
    front = Metrics(_Unknown(), ModelUp(), lambda: 0)
    found = [each for registry in (front.registry, host.registry, front.shop) for each in _of(registry)]
    found.append(Exposed(PROCESSES, "gauge", ("role",), "Processes of this server that hand over metrics."))
    return sorted(dict.fromkeys(found), key=lambda each: (each.name.startswith(LIBRARY_PREFIX), each.name))


def _of(registry: CollectorRegistry) -> Iterator[Exposed]:
    # The library shows the labels of a metric without samples nowhere else.
    for collector in dict.fromkeys(registry._collector_to_names):  # noqa: SLF001
        for family in collector.collect():
            source: Any = family if hasattr(family, "_labelnames") else collector
            labels = tuple(getattr(source, "_labelnames", ()))
            name = f"{family.name}_total" if family.type == "counter" else family.name
            if name.startswith(LIBRARY_PREFIX):
                labels = (*labels, "role")
            yield Exposed(name, family.type, labels, family.documentation)


class _Unknown:
    """Standing of a wallet that is not known."""

    async def current(self) -> None:
        """Return nothing."""


def render() -> str:
    """Return the table in Markdown."""
    lines = ["| Metric | Type | Labels | Meaning |", "|---|---|---|---|"]
    for each in exposed():
        labels = ", ".join(f"`{label}`" for label in each.labels)
        lines.append(f"| `{each.name}` | {each.type} | {labels} | {each.help} |")
    return "\n".join(lines)


def insert(document: str) -> str:
    """Return the document with the table between its marks. Raises `ValueError` when a mark is missing."""
    return insert_part(document, "metrics", render())


def main() -> None:
    """Write the table into the page, from the checkout's root."""
    page = Path(PAGE)
    page.write_text(insert(page.read_text()))


if __name__ == "__main__":
    main()
