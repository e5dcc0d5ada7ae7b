"""The deployment files are what their tools accept, and say about Tieline what is so."""

import configparser
import re
import subprocess
import sysconfig
from pathlib import Path

import compose_spec
import kubernetes_validate
import pytest
import yaml
from tests.docs.pages import ROOT

from tieline.assembly import open_buses, open_ledger
from tieline.project import read

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
FOREIGN = {"ScaledObject": "keda.sh/v1alpha1", "Kustomization": "kustomize.config.k8s.io/v1beta1"}
ADDRESSES = {
    "TIELINE_STORE": "postgresql://tieline:x@postgres/tieline",
    "TIELINE_BUS": "nats://tieline:x@nats:4222?sync=always",
    "SHOP_URL": "postgresql://shop",
    "OFFICE_URL": "postgresql://office",
}


class Reset:
    """What `!reset` takes away."""


class Override(dict):
    """What takes the place of a part, instead of being merged with it."""


class ComposeLoader(yaml.SafeLoader):
    """Knows Compose's own tags."""


ComposeLoader.add_constructor("!reset", lambda loader, node: Reset())
ComposeLoader.add_constructor("!override", lambda loader, node: Override(loader.construct_mapping(node, deep=True)))


def merged(base, over):
    """Two Compose files as one, as far as ours need it: by Compose's rules for mappings."""
    whole = dict(base)
    for name, value in over.items():
        if isinstance(value, Reset):
            whole.pop(name)
        elif isinstance(value, Override) or not isinstance(value, dict):
            whole[name] = dict(value) if isinstance(value, Override) else value
        else:
            whole[name] = merged(whole.get(name, {}), value)
    return whole


def composed(*names):
    """These Compose files as one."""
    whole = {}
    for name in names:
        whole = merged(whole, yaml.load((DEPLOY / name).read_text(), ComposeLoader))
    return whole


def documents():
    """Every Kubernetes resource, by kind and name."""
    found = {}
    for file in sorted(KUBERNETES.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            found[document["kind"], document.get("metadata", {}).get("name", "")] = document
    return found


def steps(file=DEPLOY / "Dockerfile"):
    """The instructions of the Dockerfile."""
    text = re.sub(r"\\\n", "", file.read_text())
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("names", [("compose.yaml",), ("compose.yaml", "compose.rabbitmq.yaml")], ids="+".join)
def test_compose_files_are_of_the_specification(names):
    """Alone, and with the other bus over it; whatever is waited for is there."""
    whole = composed(*names)
    assert compose_spec.PyCompose.from_yaml(yaml.safe_dump(whole)).to_json()
    services = whole["services"]
    for service in services.values():
        for awaited in service.get("depends_on", {}):
            assert "healthcheck" in services[awaited]
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in whole["volumes"] or (DEPLOY / source).exists(), volume
    engine = "rabbitmq" if len(names) > 1 else "nats"
    assert set(services) == {"worker", "postgres", engine}
    assert f"@{engine}:" in services["worker"]["environment"]["TIELINE_BUS"]


def test_a_wrong_compose_file_is_found():
    """The check would be worth nothing if it let everything pass."""
    whole = composed("compose.yaml")
    whole["services"]["worker"]["stop_grace_periods"] = "2m"
    with pytest.raises(Exception, match="stop_grace_periods"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(whole))


@pytest.mark.parametrize("name", documents(), ids="/".join)
def test_manifests_are_of_kubernetes_schemas(name):
    """Strictly: no unknown field. The kinds of others have no schema there."""
    document = documents()[name]
    if document["kind"] in FOREIGN:
        assert document["apiVersion"] == FOREIGN[document["kind"]]
        return
    kubernetes_validate.validate(document, "1.30", strict=True)


def test_a_wrong_manifest_is_found():
    """A field that is spelled wrong."""
    document = documents()["Deployment", "tieline"]
    document["spec"]["template"]["spec"]["terminationGracePeriodsSeconds"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, "1.30", strict=True)


def test_the_dockerfile_has_no_faults_that_hadolint_knows():
    """Read by hadolint, of which warnings count."""
    program = Path(sysconfig.get_path("scripts"), "hadolint")
    done = subprocess.run([program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_is_not_root_and_has_no_secret():
    """Its user is a number, it is asked for its health, and what is copied into it is there and is let in."""
    by_name = {}
    for name, rest in steps():
        by_name.setdefault(name, []).append(rest)
    (user,) = by_name["USER"]
    assert int(user.split(":")[0]) > 0
    (check,) = by_name["HEALTHCHECK"]
    assert "/opt/tieline/healthcheck.py" in check
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    for copy in by_name["COPY"]:
        if not copy.startswith("--from"):
            for source in copy.split()[:-1]:
                assert (ROOT / source.removeprefix("./")).exists(), source
                assert source in allowed, source
    assert not [rest for name in ("ARG", "ENV") for rest in by_name[name] if re.search("PASSWORD|TOKEN|SECRET", rest)]


def test_the_project_map_is_the_project():
    """Each file of deploy/project stands in the ConfigMap, and is mounted where it stands."""
    data = documents()["ConfigMap", "tieline-project"]["data"]
    files = {str(file.relative_to(DEPLOY / "project")): file.read_text() for file in _project_files()}
    volumes = documents()["Deployment", "tieline"]["spec"]["template"]["spec"]["volumes"]
    (items,) = [volume["configMap"]["items"] for volume in volumes if "configMap" in volume]
    assert {item["path"]: data[item["key"]] for item in items} == files
    assert documents()["ConfigMap", "nats"]["data"]["nats.conf"] == (DEPLOY / "nats.conf").read_text()


def _project_files():
    return [file for file in (DEPLOY / "project").rglob("*") if file.suffix in {".py", ".toml"}]


def test_the_project_is_good(monkeypatch):
    """It reads without a mistake, with addresses of the kinds that the files give; its flow is exact."""
    for name, address in ADDRESSES.items():
        monkeypatch.setenv(name, address)
    landscape = read(DEPLOY / "project").landscape
    ledger = open_ledger(landscape.store)
    assert set(open_buses(landscape, ledger)) >= {"main"}
    assert set(ADDRESSES) == set(re.findall(r"\$\{env:(\w+)\}", (DEPLOY / "project" / "tieline.toml").read_text()))


def test_every_part_is_given_the_addresses_that_the_project_asks_for():
    """In Compose and in Kubernetes, where each comes from a key of the secret that is there."""
    assert set(composed("compose.yaml")["services"]["worker"]["environment"]) == set(ADDRESSES)
    (container,) = documents()["Deployment", "tieline"]["spec"]["template"]["spec"]["containers"]
    keys = {one["name"]: one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"]}
    assert set(keys) == set(ADDRESSES)
    assert set(keys.values()) < set(documents()["Secret", "tieline"]["stringData"])
    variables = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text()))
    example = configparser.ConfigParser(interpolation=None, delimiters="=")
    example.optionxform = str
    example.read_string("[env]\n" + (DEPLOY / "env.example").read_text())
    assert set(example["env"]) == variables


def test_workers_are_probed_and_scaled_by_what_they_serve():
    """The port, paths and metric of the files are those of `tieline run --health`; leaving has time enough."""
    pod = documents()["Deployment", "tieline"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (port,) = [one["containerPort"] for one in container["ports"]]
    assert container["args"] == ["run", "--health", f"0.0.0.0:{port}"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/readyz"
    served = (ROOT / "src/tieline/cli/health.py").read_text()
    assert all(f'"{path}"' in served for path in ("/healthz", "/readyz", "/metrics"))
    assert pod["terminationGracePeriodSeconds"] >= 60
    scaled = documents()["ScaledObject", "tieline"]["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["url"].endswith(f":{port}/metrics")
    assert f'"{trigger["metadata"]["valueLocation"]}"' in (ROOT / "src/tieline/landscape/metrics.py").read_text()
    assert scaled["minReplicaCount"] >= 2
    partitions = re.search(r"partitions = (\d+)", (DEPLOY / "project" / "tieline.toml").read_text())
    assert scaled["maxReplicaCount"] <= int(partitions[1])
    resources = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    rest = {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    assert set(resources) == rest
