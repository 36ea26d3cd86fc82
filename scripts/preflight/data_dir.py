"""Check of the data directory: no other user of the machine may change it, or put another in its place."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ...config.problem import Problem

_VARIABLE: Final = "SATMETER_DATA_DIR"
_LINKS_MAX: Final = 40
_OTHERS: Final = "make it yours alone (`chown` it to this user, and `chmod 700`)."


def data_dir_problems(data_dir: Path) -> Iterator[Problem]:
    """Yield a problem if others can change the data directory, or what leads to it, links too."""
    place = data_dir.absolute()
    try:
        steps, found = list(_steps(place)), _stat(place)
    except OSError as error:
        yield Problem(_VARIABLE, f"{place} can't be looked at ({error.strerror}): name a directory of yours.")
        return
    if found is not None and not stat.S_ISDIR(found.st_mode):
        yield Problem(_VARIABLE, f"{place} is not a directory: name a directory of yours.")
    elif found is not None and (not _ours(found) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        yield Problem(_VARIABLE, f"Others can write to {place.resolve()}: {_OTHERS}")
    elif (entry := next(filter(_others_can_replace, steps), None)) is not None:
        if _is_foreign_link(entry):
            yield Problem(
                _VARIABLE, f"{entry} is a link of another user, who can change it: name its directory itself."
            )
            return
        text = f"Others can write to {entry.parent}, and so replace {entry}: take their right away (`chmod go-w`)."
        yield Problem(_VARIABLE, text)


def _stat(place: Path) -> os.stat_result | None:
    """Return None for a directory that is missing: it is made at the start, for its owner alone."""
    try:
        return place.stat()
    except FileNotFoundError:
        return None


def _steps(place: Path) -> Iterator[Path]:
    """Yield the entries of directories by which the system finds a place, each in a directory without links.

    Raises `OSError` for links without an end.
    """
    parts, here, links = list(reversed(place.parts[1:])), Path(place.anchor), 0
    while parts:
        part = parts.pop()
        if part in (".", ".."):
            here = here.parent if part == ".." else here
            continue
        entry = here / part
        yield entry
        if not entry.is_symlink():
            here = entry
            continue
        links += 1
        if links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = entry.readlink()
        here = Path(target.anchor) if target.is_absolute() else here
        parts += reversed(target.parts[1:] if target.is_absolute() else target.parts)


def _others_can_replace(entry: Path) -> bool:
    if _is_foreign_link(entry):
        return True
    try:
        found = entry.parent.stat()
    except OSError:
        return False
    # A container's volume is open to all users, of which its container has one.
    if os.path.ismount(entry.parent):
        return False
    if found.st_uid not in (0, os.geteuid()):
        return True
    if not (found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and _has_others(found.st_gid))):
        return False
    # In a directory with the sticky bit, such as /tmp, only the owner of an entry may replace it.
    return not found.st_mode & stat.S_ISVTX


def _is_foreign_link(entry: Path) -> bool:
    return entry.is_symlink() and not _ours(entry.lstat())


def _ours(found: os.stat_result) -> bool:
    return found.st_uid in (0, os.geteuid())


def _has_others(group: int) -> bool:
    """Return whether a group is more than this user's own, which many systems give to each user."""
    if group == 0:
        return False
    try:
        members = grp.getgrgid(group).gr_mem
    except KeyError:
        members = []
    return group != os.getegid() or bool(members) or sum(user.pw_gid == group for user in pwd.getpwall()) > 1
