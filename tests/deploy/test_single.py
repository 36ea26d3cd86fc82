"""deploy/single: units, scripts and the compose file of one machine, each checked by its own tool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from satmeter.config.secret_names import IN_A_FILE, SECRETS
from satmeter.config.settings import Settings
from tests.helpers.proxies import program
from tests.helpers.units import Unit, env_file

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SINGLE = DEPLOY / "single"
UNITS = sorted([*SINGLE.glob("*.service"), *SINGLE.glob("*.timer"), *DEPLOY.glob("*.service")])
SETTINGS = {str(field.validation_alias) for field in Settings.model_fields.values()} | {
    f"{name}{IN_A_FILE}" for name in SECRETS
}
# The exposure that `systemd-analyze security` gives, of 10, times 10. Lower is better; 2.0 is its "OK".
EXPOSURE = {"satmeter.service": 15, "satmeter-node@.service": 25, "satmeter-backup.service": 35}


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze"), "--no-pager", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def _with_programs_of_this_machine(unit: Path, folder: Path) -> Path:
    """A copy whose programs and users exist here: of these alone the check would say that they are missing."""
    text = re.sub(r"^(ExecStart=)\S+", rf"\1{shutil.which('true')}", unit.read_text(), flags=re.MULTILINE)
    copy = folder / unit.name.replace("@.", "@server.")
    copy.write_text(text)
    return copy


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: f"{unit.parent.name}/{unit.name}")
def test_systemd_finds_nothing_in_the_units(unit: Path, tmp_path: Path) -> None:
    for other in UNITS:
        if other.parent == unit.parent:
            _with_programs_of_this_machine(other, tmp_path)
    run = _analyze("verify", "--man=no", "--recursive-errors=no", str(_with_programs_of_this_machine(unit, tmp_path)))
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


@pytest.mark.parametrize("name", EXPOSURE)
def test_the_units_expose_no_more_than_they_must(name: str, tmp_path: Path) -> None:
    (unit,) = [unit for unit in UNITS if unit.name == name and (unit.parent == SINGLE or "node" in name)]
    copy = _with_programs_of_this_machine(unit, tmp_path)
    run = _analyze("security", "--offline=true", f"--threshold={EXPOSURE[name]}", str(copy))
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_server_is_started_again_and_has_time_to_end() -> None:
    for path in (SINGLE / "satmeter.service", DEPLOY / "satmeter-node@.service"):
        unit = Unit(path)
        assert (unit.one("Restart"), unit.one("KillMode"), unit.one("OOMPolicy")) == ("always", "mixed", "continue")
        assert unit.one("StartLimitIntervalSec", "Unit") == "0"
        assert int(unit.one("TimeoutStopSec")) >= 15 + 5
        assert unit.one("WantedBy", "Install") == "multi-user.target"
        assert int(unit.one("LimitNOFILE")) >= 65_536
        assert unit.one("UMask") == "0077" and unit.one("StateDirectoryMode") == "0700"
        # `--accept-loss` would take any loss, at each start.
        assert "accept-loss" not in unit.one("ExecStart")


def test_every_variable_of_one_machine_is_a_setting() -> None:
    compose = yaml.safe_load((SINGLE / "compose.yaml").read_text())["services"]["server"]["environment"]
    named = {*compose, *re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (SINGLE / "env.example").read_text(), re.MULTILINE)}
    assert named - SETTINGS == set() and len(named) > 10
    assert env_file(SINGLE / "env.example")["SATMETER_ENV"] == "production"


def test_no_secret_is_in_the_settings_but_by_its_file() -> None:
    compose = yaml.safe_load((SINGLE / "compose.yaml").read_text())
    server = compose["services"]["server"]
    files = {**env_file(SINGLE / "env.example"), **server["environment"]}
    assert not set(files) & set(SECRETS)
    assert {Path(path).name for name, path in files.items() if name.endswith(IN_A_FILE)} <= set(server["secrets"])
    made = (SINGLE / "make-keys").read_text()
    assert all(name in made for name in compose["secrets"])
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "deploy/single/*.env" in ignored and "deploy/single/keys/" in ignored


def test_the_compose_file_fits_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    run = subprocess.run([*command, SINGLE / "compose.yaml"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_only_the_proxy_can_be_reached_from_elsewhere() -> None:
    services: dict[str, Any] = yaml.safe_load((SINGLE / "compose.yaml").read_text())["services"]
    assert "ports" not in services["valkey"]
    # It hands the volume over to the node's user, and ends.
    once = services.pop("phoenixd-owner")
    assert (once["network_mode"], once["cap_add"], once["image"]) == ("none", ["CHOWN"], services["phoenixd"]["image"])
    assert once["volumes"] == services["phoenixd"]["volumes"] and once["profiles"] == services["phoenixd"]["profiles"]
    for name, service in services.items():
        assert "healthcheck" in service and service["restart"] == "unless-stopped", name
        outside = [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")]
        assert bool(outside) is (name == "caddy"), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in ("server", "valkey", "caddy"):
        assert services[name]["read_only"] is True and services[name]["cap_drop"] == ["ALL"]
    options = services["valkey"]["command"]
    assert [options[options.index(name) + 1] for name in ("--appendonly", "--appendfsync", "--maxmemory-policy")] == [
        "yes",
        "always",
        "noeviction",
    ]
    assert services["phoenixd"]["profiles"] == ["phoenixd"] and services["lnbits"]["profiles"] == ["lnbits"]


@pytest.mark.parametrize("name", ["install", "make-keys", "satmeter-admin", "backup"])
def test_shellcheck_finds_nothing_in_the_scripts(name: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    if not shellcheck.exists():
        pytest.skip("shellcheck has no wheel for this machine")
    run = subprocess.run([shellcheck, SINGLE / name], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert os.access(SINGLE / name, os.X_OK)
