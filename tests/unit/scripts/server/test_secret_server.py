"""Secrets by the socket: who finds it, and what it gives."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from satmeter.config import private_dir
from satmeter.config.held_secrets import Role
from satmeter.config.private_dir import make_private_dir, private_dirs
from satmeter.config.secret_socket import NoSecretsError, ask_for_secrets, socket_in
from satmeter.config.settings import Settings
from satmeter.scripts.server.secret_server import SecretServer

NODE, OTHER_NODE = "ab" * 28, "cd" * 28
SETTINGS = Settings(
    redis_url="redis://store",
    macaroon_root_key=SecretStr("5a" * 32),
    lnbits_admin_key=SecretStr("admin"),
    anthropic_api_key=SecretStr("provider"),
)


@pytest.fixture(autouse=True)
def root(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(private_dir, "ROOT", str(root))
    return root


async def test_a_process_gets_the_secrets_of_its_role_from_the_server_of_its_node() -> None:
    directory, server = make_private_dir(), SecretServer(SETTINGS)
    await server.open(directory, NODE)
    treasury, host = await ask_for_secrets(Role.TREASURY, NODE), await ask_for_secrets(Role.HOST, NODE)
    assert treasury.settings["lnbits_admin_key"] == "admin" and treasury.upstream_keys == {}
    assert host.settings["lnbits_admin_key"] != "admin" and host.upstream_keys == {"anthropic": "provider"}
    with pytest.raises(NoSecretsError):
        await ask_for_secrets(Role.HOST, OTHER_NODE)
    # A front is a child of the main process, which tells it what it needs.
    with pytest.raises(NoSecretsError):
        await ask_for_secrets(Role.FRONT, NODE)
    server.close()
    with pytest.raises(NoSecretsError):
        await ask_for_secrets(Role.HOST, NODE)


async def test_the_socket_of_a_server_that_was_killed_is_passed_over(root: Path) -> None:
    killed = make_private_dir()
    killed.rename(root / f"satmeter-{os.getuid()}-0-killed")
    socket_in(root / f"satmeter-{os.getuid()}-0-killed", NODE).touch()
    directory, server = make_private_dir(), SecretServer(SETTINGS)
    await server.open(directory, NODE)
    assert (await ask_for_secrets(Role.HOST, NODE)).settings["redis_url"] == "redis://store"
    server.close()


async def test_a_directory_that_others_may_enter_is_not_looked_into(root: Path) -> None:
    directory, server = make_private_dir(), SecretServer(SETTINGS)
    await server.open(directory, NODE)
    for mode in (0o710, 0o701, 0o777):
        directory.chmod(mode)
        with pytest.raises(NoSecretsError):
            await ask_for_secrets(Role.HOST, NODE)
    directory.chmod(0o700)
    assert list(private_dirs()) == [directory]
    moved = root / "elsewhere"
    directory.rename(moved)
    directory.symlink_to(moved)
    assert list(private_dirs()) == []
    server.close()


def test_the_directory_is_closed_to_others_and_those_of_killed_servers_are_removed(root: Path) -> None:
    left = root / f"satmeter-{os.getuid()}-{2**22 + 1}-old"
    left.mkdir()
    directory = make_private_dir()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not left.exists()
