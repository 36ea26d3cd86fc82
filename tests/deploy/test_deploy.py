"""Files in deploy/: each checked by its tool or schema, and all of them by what must hold between them."""

from __future__ import annotations

import configparser
import json
import mmap
import platform
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from satmeter.config.secret_names import IN_A_FILE
from satmeter.config.secret_names import SECRETS as SECRET_SETTINGS
from satmeter.config.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SETTINGS = {str(field.validation_alias) for field in Settings.model_fields.values()} | {
    f"{name}{IN_A_FILE}" for name in SECRET_SETTINGS
}
RAYS = {
    "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_USAGE_STATS_ENABLED", "RAY_REDIS_ADDRESS",
    "RAY_external_storage_namespace", "RAY_gcs_rpc_server_reconnect_timeout_s",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S",
}  # fmt: skip
# Of our own making: the Valkey's password, from which REDIS_URL is made; the next is what its client reads. The others
# are the login of Ray's head, by `satmeter ray-head`, and by the names that KubeRay gives it.
STORES = {
    "VALKEY_PASSWORD", "REDISCLI_AUTH", "RAY_REDIS_USERNAME", "RAY_REDIS_PASSWORD", "RAY_REDIS_PASSWORD_FILE",
    "REDIS_USERNAME", "REDIS_PASSWORD",
}  # fmt: skip
SECRETS = {
    "MACAROON_ROOT_KEY", "RAY_AUTH_TOKEN", "VALKEY_PASSWORD", "RAY_REDIS_PASSWORD", "REDIS_URL", "LNBITS_INVOICE_KEY",
    "LNBITS_ADMIN_KEY", "ANTHROPIC_API_KEY", "OPERATOR_TOKEN",
}  # fmt: skip


def _yaml(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def _manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text()))


def _manifest(kind: str, name: str = "satmeter") -> Any:
    (found,) = [item for item in _manifests() if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def _env_file() -> dict[str, str]:
    lines = (DEPLOY / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _pod_templates() -> dict[str, Any]:
    spec = _manifest("RayCluster")["spec"]
    return {
        "head": spec["headGroupSpec"]["template"],
        **{g["groupName"]: g["template"] for g in spec["workerGroupSpecs"]},
    }


def test_the_cluster_file_is_what_ray_s_launcher_takes() -> None:
    config = prepare_config(_yaml("ray-cluster.yaml"))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"])


def test_the_cluster_file_copies_only_what_there_is() -> None:
    for target, source in _yaml("ray-cluster.yaml")["file_mounts"].items():
        assert (ROOT / source).exists()
        assert target == f"/opt/satmeter/{source}"


def test_what_the_program_is_made_of_goes_to_each_machine_and_into_the_image() -> None:
    parts = {path.readlink().name for path in (ROOT / "src" / "satmeter").iterdir() if path.is_symlink()}
    assert len(parts) == 5
    assert parts <= set(_yaml("ray-cluster.yaml")["file_mounts"].values())
    assert parts <= set(re.findall(r"^COPY (\w+) \w+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))


def test_the_compose_file_fits_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    run = subprocess.run([*command, DEPLOY / "compose.yaml"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("manifest", [m for m in _manifests() if m["kind"] != "RayCluster"], ids=lambda m: m["kind"])
def test_a_manifest_fits_kubernetes_schema(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.37", strict=True)


@pytest.mark.parametrize("name", _pod_templates())
def test_the_pods_of_the_ray_cluster_fit_kubernetes_schema(name: str) -> None:
    template = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": name},
        "template": _pod_templates()[name],
    }
    kubernetes_validate.validate(template, "1.37", strict=True)


def test_the_ray_cluster_fits_what_kuberay_documents() -> None:
    # No package carries KubeRay's schema. These are the fields in use, as its API (ray.io/v1) has them, and no others.
    text, count, template = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "object"}

    def exactly(**properties: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    start_params = {"type": "object", "additionalProperties": text}
    reference = exactly(valueFrom=exactly(secretKeyRef=exactly(name=text, key=text)))
    group = exactly(
        groupName=text,
        replicas=count,
        minReplicas=count,
        maxReplicas=count,
        rayStartParams=start_params,
        template=template,
    )
    spec = exactly(
        rayVersion=text,
        authOptions=exactly(mode={"const": "token"}),
        gcsFaultToleranceOptions=exactly(redisAddress=text, redisUsername=exactly(value=text), redisPassword=reference),
        headGroupSpec=exactly(rayStartParams=start_params, template=template),
        workerGroupSpecs={"type": "array", "items": group},
    )
    metadata = exactly(name=text, annotations={"type": "object", "additionalProperties": text})
    schema = exactly(apiVersion={"const": "ray.io/v1"}, kind={"const": "RayCluster"}, metadata=metadata, spec=spec)
    jsonschema_rs.validate(schema, _manifest("RayCluster"))


def test_the_ray_of_the_manifest_is_the_one_of_the_lock() -> None:
    assert _manifest("RayCluster")["spec"]["rayVersion"] == ray.__version__
    assert f"\nray=={ray.__version__} " in (ROOT / "requirements.lock").read_text()


def test_one_server_at_a_time_may_be_disrupted_and_each_has_time_to_drain() -> None:
    (group,) = _manifest("RayCluster")["spec"]["workerGroupSpecs"]
    budget = _manifest("PodDisruptionBudget")["spec"]
    labels = {"ray.io/cluster": "satmeter", "ray.io/group": group["groupName"]}
    assert budget["minAvailable"] == group["replicas"] - 1 > 0
    assert budget["selector"]["matchLabels"] == _manifest("Service")["spec"]["selector"] == labels
    pod = group["template"]["spec"]
    (container,) = pod["containers"]
    before_s = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] >= before_s + 15 + 5
    for service in ("server-1", "server-2"):
        assert _yaml("compose.yaml")["services"][service]["stop_grace_period"] == "20s"


def test_the_probes_ask_the_paths_that_exist() -> None:
    (container,) = _pod_templates()["server"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz?exclude=model"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert "/healthz" in (DEPLOY / "Dockerfile").read_text()


def test_the_stores_keep_every_write_and_evict_nothing() -> None:
    (pod,) = _manifest("StatefulSet", "valkey")["spec"]["template"]["spec"]["containers"]
    for command in (pod["command"], _yaml("compose.yaml")["services"]["valkey"]["command"]):
        assert "--appendonly yes --appendfsync always --maxmemory-policy noeviction" in command[-1]
        assert "requirepass" in command[-1].split("<<CONF")[1], "the password stands on no command line"


@pytest.mark.parametrize("name", ["compose.yaml", "kuberay.yaml"])
def test_ray_has_a_user_of_its_own_in_the_store_with_the_documented_rights(name: str) -> None:
    rule = (DEPLOY / "ray-store-user.acl").read_text().strip()
    written = re.findall(r"^ *(user ray .*)$", (DEPLOY / name).read_text(), re.MULTILINE)
    assert [re.sub(r">\$+RAY_REDIS_PASSWORD ", ">CHANGE-ME ", line) for line in written] == [rule]


def test_ray_gets_no_other_password_of_the_store() -> None:
    head = _yaml("compose.yaml")["services"]["ray-head"]["environment"]
    assert head["RAY_REDIS_USERNAME"] == "ray" and "VALKEY_PASSWORD" not in head
    assert head["RAY_REDIS_PASSWORD"].startswith("${RAY_REDIS_PASSWORD:?")
    options = _manifest("RayCluster")["spec"]["gcsFaultToleranceOptions"]
    assert options["redisUsername"] == {"value": "ray"}
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"]["key"] == "RAY_REDIS_PASSWORD"


def _variables() -> set[tuple[str, str]]:
    compose = _yaml("compose.yaml")
    used = {("env.example", name) for name in _env_file()}
    for service in compose["services"].values():
        used |= {("compose.yaml", name) for name in service.get("environment", {})}
    used |= {("compose.yaml", name) for name in re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text())}
    for _, template in [*_pod_templates().items(), ("", _manifest("StatefulSet", "valkey")["spec"]["template"])]:
        for container in template["spec"]["containers"]:
            used |= {("kuberay.yaml", entry["name"]) for entry in container["env"]}
    for line in re.findall(r"^ENV (.*SATMETER.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE):
        used |= {("Dockerfile", word.split("=")[0]) for word in line.split()}
    used |= {("node.sh", name) for name in re.findall(r"\b([A-Z][A-Z0-9]*_\w+)\b", (DEPLOY / "node.sh").read_text())}
    for file in ("satmeter.service", "satmeter-node@.service"):
        used |= {(file, name) for name in re.findall(r"\b(SATMETER_\w+)=", (DEPLOY / file).read_text())}
    return used


@pytest.mark.parametrize(("file", "name"), sorted(_variables()))
def test_every_variable_is_a_setting_or_one_of_ray_s(file: str, name: str) -> None:
    assert name in SETTINGS | RAYS | STORES | {"KUBERAY_GEN_RAY_START_CMD"}, f"{file} sets {name}, which nobody reads"


@pytest.mark.parametrize("name", sorted(RAYS - {"RAY_USAGE_STATS_ENABLED"}))
def test_ray_reads_the_variables_that_are_meant_for_it(name: str) -> None:
    package = Path(ray.__file__).parent
    with (package / "_raylet.so").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as library:
        compiled = library.find(name.encode()) >= 0
    sources = [package / "_private" / source for source in ("node.py", "ray_constants.py")]
    assert compiled or any(name in source.read_text() for source in sources)


def test_no_secret_has_a_value_and_nothing_starts_without_one() -> None:
    env = _env_file()
    assert set(env) >= SECRETS
    assert {name for name in SECRETS if env[name]} == set()
    assert (env["SATMETER_ENV"], env["RAY_AUTH_MODE"]) == ("production", "token")
    compose = _yaml("compose.yaml")["services"]
    for name in ("ray-head", "server-1", "server-2"):
        settings = compose[name]["environment"]
        assert settings["RAY_AUTH_MODE"] == "token"
        for secret in ("RAY_AUTH_TOKEN", "MACAROON_ROOT_KEY"):
            assert settings[secret].startswith(f"${{{secret}:?")
        assert "${VALKEY_PASSWORD:?" in settings["REDIS_URL"]
    assert compose["valkey"]["environment"]["VALKEY_PASSWORD"].startswith("${VALKEY_PASSWORD:?")
    assert "Secret" not in {manifest["kind"] for manifest in _manifests()}


def test_git_and_the_image_leave_the_filled_in_settings_out() -> None:
    assert "deploy/*.env" in (ROOT / ".gitignore").read_text().splitlines()
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored.index("*") < min(index for index, line in enumerate(ignored) if line.startswith("!"))
    assert [line for line in ignored if line.startswith("!deploy")] == ["!deploy/node.sh"]


def _sent_to_docker(path: str) -> bool:
    """Return whether a build gets this file, as Docker reads the patterns: the last that fits counts, for all below."""
    sent = True
    for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        parts = [path, *map(str, Path(path).parents)][:-1]
        either = (pattern, pattern.removeprefix("**/"))
        if line and not line.startswith("#") and any(fnmatch(part, form) for part in parts for form in either):
            sent = line.startswith("!")
    return sent


def test_a_build_gets_all_that_it_copies_and_no_secret() -> None:
    copied = re.findall(
        r"^COPY (?:--chmod=\d+ )?((?!--from)\S.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE
    )
    sources = [word for line in copied for word in line.split()]
    assert {"requirements.lock", "actors", "deploy/node.sh"} <= set(sources)
    for source in sources:
        found = [source] if (ROOT / source).is_file() else [f"{source}/module.py"]
        assert all(_sent_to_docker(name) for name in found), source
    for name in ("deploy/satmeter.env", "deploy/single/keys/REDIS_URL", "deploy/single/satmeter.env", ".git/config"):
        assert not _sent_to_docker(name), name
    for name in (".satmeter/macaroon_root_key", ".env", "client.json", "tests/conftest.py", "http/__pycache__/app.pyc"):
        assert not _sent_to_docker(name), name


def test_nothing_but_the_servers_is_published() -> None:
    for name, service in _yaml("compose.yaml")["services"].items():
        ports = service.get("ports", [])
        assert bool(ports) is name.startswith("server-")
        assert all(port.startswith("127.0.0.1:") and port.endswith(":8402") for port in ports)
    assert {m["spec"].get("type", "ClusterIP") for m in _manifests() if m["kind"] == "Service"} == {"ClusterIP"}


def test_the_image_installs_by_hash_and_runs_the_server_itself_without_rights() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert "--require-hashes --only-binary :all:" in text
    (base,) = re.findall(r"^ARG BASE_IMAGE=(\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"python:3\.13-slim-bookworm(@sha256:[0-9a-f]{64})?", base)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${BASE_IMAGE}"] * 2
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001"]
    (command,) = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    assert json.loads(command) == ["satmeter", "serve"]
    for word in ("--index-url", "--extra-index-url", "--trusted-host"):
        assert word not in text


@pytest.mark.parametrize("name", sorted(str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file()))
def test_no_address_of_a_registry_is_written_out(name: str) -> None:
    text = (DEPLOY / name).read_text()
    assert set(re.findall(r"https?://([\w.]+)", text)) <= {
        "127.0.0.1",
        "satmeter.example",
        "satmeter",
        "phoenixd",
        "lnbits",
    }


def test_systemd_starts_the_server_again_and_gives_it_time_to_drain() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "satmeter.service")
    service = unit["Service"]
    assert (service["Restart"], service["KillSignal"], service["KillMode"]) == ("always", "SIGTERM", "mixed")
    assert int(service["TimeoutStopSec"]) >= 20
    assert service["EnvironmentFile"] == "/opt/satmeter/deploy/satmeter.env"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    program = Path(sys.executable).with_name("shellcheck")
    if sys.platform == "linux" and platform.machine() != "x86_64" and not program.exists():
        pytest.skip("shellcheck has no wheel for this machine")
    run = subprocess.run([program, DEPLOY / "node.sh"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
