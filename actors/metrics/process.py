"""Metrics of a process that counts nothing else."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector


def process_registry() -> CollectorRegistry:
    """Return a registry with the time, memory and files of this process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry
