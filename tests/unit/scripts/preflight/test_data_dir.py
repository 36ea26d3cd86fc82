"""The check of the data directory: who else could change it, or what leads to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from satmeter.scripts.preflight.data_dir import data_dir_problems

# Root alone may give files to others.
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
ANOTHER = 4_711


def refused(place: Path) -> str:
    """Return what is told of a directory, empty for one that is well."""
    found = list(data_dir_problems(place))
    assert {problem.variable for problem in found} <= {"SATMETER_DATA_DIR"} and len(found) <= 1
    assert all(problem.message.endswith(".") and ":" in problem.message for problem in found), "no remedy"
    return "".join(problem.message for problem in found)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720, 0o702])
def test_a_data_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "data"
    place.mkdir()
    place.chmod(mode)
    assert refused(place)
    place.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(place)
    assert not refused(link)
    place.chmod(mode)
    assert refused(link)


def test_a_directory_that_others_can_replace_is_refused(tmp_path: Path) -> None:
    parent = tmp_path / "open"
    parent.mkdir()
    for place in (parent / "data", parent / "deeper" / "data"):
        parent.chmod(0o777)
        (problem,) = data_dir_problems(place)
        assert str(parent) in problem.message and "chmod go-w" in problem.message
        parent.chmod(0o1777)
        assert list(data_dir_problems(place)) == []


def test_a_container_s_volume_may_be_open_and_a_directory_of_its_own_in_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o777)
    monkeypatch.setattr("os.path.ismount", lambda place: Path(place) == volume)
    assert list(data_dir_problems(volume / "satmeter")) == []
    assert [problem.variable for problem in data_dir_problems(volume)] == ["SATMETER_DATA_DIR"]


def test_a_directory_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "data"
    place.mkdir(mode=0o700)
    monkeypatch.setattr("os.geteuid", lambda: 4_711)
    if place.stat().st_uid == 0:
        # Root may write everywhere anyway.
        assert list(data_dir_problems(place)) == []
    else:
        assert [problem.variable for problem in data_dir_problems(place)] == ["SATMETER_DATA_DIR"]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "is not a directory" in refused(file)
    assert "can't be looked at" in refused(file / "deeper")


def test_links_without_an_end_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert "can't be looked at" in refused(tmp_path / "a")


@pytest.mark.parametrize("way", ["link", "link/../link", "../open/link"])
def test_a_link_that_others_can_replace_is_refused(tmp_path: Path, way: str) -> None:
    place, parent = tmp_path / "data", tmp_path / "open"
    place.mkdir(mode=0o700)
    parent.mkdir()
    (parent / "link").symlink_to(tmp_path)
    assert refused(parent / way / "data") == ""
    parent.chmod(0o777)
    assert str(parent) in refused(parent / way / "data")


def test_links_that_lead_on_are_followed(tmp_path: Path) -> None:
    place, parent = tmp_path / "data", tmp_path / "open"
    place.mkdir(mode=0o700)
    parent.mkdir()
    (parent / "second").symlink_to("../data")
    (tmp_path / "first").symlink_to("open/second")
    assert refused(tmp_path / "first") == ""
    parent.chmod(0o777)
    assert str(parent) in refused(tmp_path / "first")


@AS_ROOT
def test_a_link_of_another_user_is_refused_wherever_it_is(tmp_path: Path) -> None:
    place, parent, link = tmp_path / "data", tmp_path / "sticky", tmp_path / "sticky" / "link"
    place.mkdir(mode=0o700)
    parent.mkdir()
    parent.chmod(0o1777)
    link.symlink_to(place)
    assert refused(link) == ""
    os.chown(link, ANOTHER, ANOTHER, follow_symlinks=False)
    assert str(link) in refused(link)


@AS_ROOT
def test_a_group_that_may_write_above_is_others_unless_it_is_this_user_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path / "shared"
    parent.mkdir()
    os.chown(parent, 0, ANOTHER)
    parent.chmod(0o770)
    assert str(parent) in refused(parent / "data")
    monkeypatch.setattr("os.getegid", lambda: ANOTHER)
    assert refused(parent / "data") == ""
    parent.chmod(0o750)
    monkeypatch.undo()
    assert refused(parent / "data") == ""


@AS_ROOT
def test_a_directory_that_belongs_to_another_user_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir(mode=0o700)
    os.chown(place, ANOTHER, ANOTHER)
    assert "Others can write" in refused(place)
    assert "Others can write" in refused(place / "deeper")
