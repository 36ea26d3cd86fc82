"""Images and containers: pinned by digest, without rights, on a root that is read-only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.cluster.jobs import create, finish, pay
from tests.helpers.served import served

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DIGEST = "sha256:" + "5a" * 32
FILES = ("Dockerfile", "compose.yaml", "kuberay.yaml", "single/compose.yaml")
# In a mount namespace of its own: a fresh /tmp, and all else of the root's file system read-only.
READ_ONLY = (
    "mount --make-rprivate / && mount --bind /tmp /tmp && mount -o remount,bind,ro / && "
    '! touch "$0" 2>/dev/null && exec "$@"'
)


def pinned(tmp_path: Path, says: str) -> subprocess.CompletedProcess[str]:
    """Runs scripts/pin-image in a copy, with a Docker that says this."""
    for name in ("scripts", "deploy/single", "bin"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "scripts" / "pin-image", tmp_path / "scripts")
    for name in FILES:
        shutil.copy(DEPLOY / name, tmp_path / "deploy" / name)
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f"#!/bin/sh\n{says}\n")
    docker.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    script = tmp_path / "scripts" / "pin-image"
    return subprocess.run([script], env=environment, capture_output=True, text=True, check=False)


def images(deploy: Path) -> dict[str, set[str]]:
    """The images that each file takes from a registry."""
    found = {
        name: re.findall(r"(?m)^(?:ARG BASE_IMAGE=| +image: )(\S+)$", (deploy / name).read_text()) for name in FILES
    }
    return {name: {image for image in named if image != "satmeter:local"} for name, named in found.items()}


def test_what_our_image_and_money_stand_on_is_named_by_digest() -> None:
    named = set[str]().union(*images(DEPLOY).values())
    by_digest = {image.partition("@")[0] for image in named if re.search(r"@sha256:[0-9a-f]{64}$", image)}
    assert by_digest == {"python:3.13-slim-bookworm", "valkey/valkey:9", "caddy:2"}
    by_tag = {image for image in named if "@" not in image}
    # No other tag of an image may move under an operator.
    assert {name for name in by_tag if not re.search(r":v?\d+\.\d+\.\d+$", name)} == set()
    assert {name.partition(":")[0] for name in by_tag} == {"acinq/phoenixd", "lnbits/lnbits"}


def test_each_image_is_pinned_by_the_digest_of_its_registry(tmp_path: Path) -> None:
    for _ in range(2):
        run = pinned(tmp_path, f"echo {DIGEST}")
        assert run.returncode == 0, run.stderr
    assert images(tmp_path / "deploy") == {
        name: {f"{image.partition('@')[0]}@{DIGEST}" for image in named} for name, named in images(DEPLOY).items()
    }
    left = sorted(str(path.relative_to(tmp_path / "deploy")) for path in (tmp_path / "deploy").rglob("*.*"))
    assert left == ["compose.yaml", "kuberay.yaml", "single/compose.yaml"]


def test_the_digest_of_one_image_is_not_written_behind_another(tmp_path: Path) -> None:
    says = f'case "$4" in caddy*) echo {DIGEST} ;; *) echo {DIGEST.replace("5a", "6b")} ;; esac'
    assert pinned(tmp_path, says).returncode == 0
    named = set[str]().union(*images(tmp_path / "deploy").values())
    assert {image.partition(":")[0] for image in named if image.endswith(f"@{DIGEST}")} == {"caddy"}
    assert len(named) == 5


@pytest.mark.parametrize("says", ["echo no such host >&2; exit 1", "echo '<no value>'"])
def test_without_a_registry_nothing_is_pinned(tmp_path: Path, says: str) -> None:
    assert pinned(tmp_path, says).returncode != 0
    for name in FILES:
        assert (tmp_path / "deploy" / name).read_text() == (DEPLOY / name).read_text()


def containers() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for manifest in yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text()):
        spec = manifest.get("spec", {})
        templates = [spec["template"]] if manifest["kind"] == "StatefulSet" else []
        if manifest["kind"] == "RayCluster":
            groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
            templates = [group["template"] for group in groups]
        for template in templates:
            for container in template["spec"]["containers"]:
                found[container["name"]] = {**container, "pod": template["spec"]}
    return found


def test_no_container_has_rights_or_can_write_to_its_root() -> None:
    assert containers().keys() == {"valkey", "ray-head", "server"}
    for container in containers().values():
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["pod"]["securityContext"]["runAsNonRoot"] is True
    for name, service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_what_a_server_writes_to_is_mounted() -> None:
    for name in ("ray-head", "server"):
        mounted = {mount["name"]: mount["mountPath"] for mount in containers()[name]["volumeMounts"]}
        assert mounted == {"tmp": "/tmp", "data": "/data"}
        assert {volume["name"] for volume in containers()[name]["pod"]["volumes"]} == mounted.keys()
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name in ("server-1", "server-2"):
        service = compose["services"][name]
        assert service["volumes"] == [f"{name}:/data"] and name in compose["volumes"]
        assert service["tmpfs"] == ["/tmp:mode=1777"]


def test_the_image_carries_its_bill_of_materials() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert "--require-hashes --only-binary :all: -r tools.lock" in text
    assert "cyclonedx-py environment" in text and "/usr/share/satmeter/satmeter.cdx.json" in text
    assert "!.ci/tools.lock" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can make a mount namespace")
def test_a_server_works_on_a_root_that_is_read_only() -> None:
    with tempfile.TemporaryDirectory(prefix="sm-", dir="/tmp") as folder:
        within = ("unshare", "--mount", "sh", "-c", READ_ONLY, "/written")
        if subprocess.run([*within, "true"], check=False).returncode:
            pytest.skip("this machine lets nobody mount")
        with served(Path(folder) / "data", within=within, SATMETER_HOSTS="1") as server:
            made = create(server)
            pay(server, made["evalInvoice"])
            assert finish(server, made["jobId"])["result"]
            server.stop()
            assert server.left_over() == []
