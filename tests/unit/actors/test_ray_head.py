"""The start of Ray's head: which of its processes gets the password of its store, and by what."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from satmeter.actors.ray_head import hidden_password
from satmeter.actors.ray_start import RayStartError


class Library:
    """Ray's module of processes, as far as it passes the password on. Another release may do so by a place."""

    def __init__(self, *, by_place: bool = False) -> None:
        self.launched: dict[str, tuple[list[str], dict[str, str]]] = {}
        self._by_place = by_place
        self.services = SimpleNamespace(
            start_ray_process=self._launch, start_gcs_server=self._gcs, start_raylet=self._raylet
        )
        self.originals = dict(vars(self.services))

    def _launch(self, command: list[str], process_type: str, env_updates: dict[str, str] | None = None) -> None:
        self.launched[process_type] = (command, env_updates or {})

    def _gcs(self, address: str, redis_password: str | None = None) -> None:
        self._begin("gcs_server", f"--redis_address={address}", "--redis_password", redis_password)

    def _raylet(self, address: str, redis_password: str | None = None) -> None:
        self._begin("raylet", f"--worker=python worker.py --address={address}", "--redis-password", redis_password)

    def _begin(self, process_type: str, first: str, option: str, password: str | None) -> None:
        command = [process_type, first, *([f"{option}={password}"] if password else [])]
        self.services.start_ray_process(command, process_type)

    def start(self, password: str = "hidden") -> None:
        with hidden_password(self.services, password):
            if self._by_place:
                self.services.start_gcs_server("store:6379", password)
            else:
                self.services.start_gcs_server("store:6379", redis_password=password)
            self.services.start_raylet("store:6379", redis_password=password)


def test_the_one_process_that_uses_the_password_has_it_in_its_environment_and_none_on_its_command_line() -> None:
    library = Library()
    library.start()
    gcs, raylet = library.launched["gcs_server"], library.launched["raylet"]
    assert gcs == (
        ["gcs_server", "--redis_address=store:6379", "--fromenv=redis_password"],
        {"FLAGS_redis_password": "hidden"},
    )
    assert raylet == (["raylet", "--worker=python worker.py --address=store:6379"], {})


def test_a_release_of_ray_that_passes_it_otherwise_does_not_start() -> None:
    library = Library(by_place=True)
    with pytest.raises((RayStartError, TypeError)):
        library.start()
    assert library.launched == {}


def test_a_process_with_the_password_on_its_command_line_is_not_started() -> None:
    library = Library()
    with hidden_password(library.services, "hidden"), pytest.raises(RayStartError, match="command line of monitor"):
        library.services.start_ray_process(["monitor", "--redis-password=hidden"], "monitor")
    assert library.launched == {}


@pytest.mark.parametrize("fails", [False, True])
def test_ray_is_as_it_was_afterwards(fails: bool) -> None:
    library = Library(by_place=fails)
    try:
        library.start()
    except (RayStartError, TypeError):
        assert fails
    left: dict[str, Any] = dict(vars(library.services))
    assert left == library.originals
