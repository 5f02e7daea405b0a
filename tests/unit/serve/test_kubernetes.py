"""Manifests as Kubernetes reads them: its published schemas, and what the objects say together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qwen3_reranker import InputError
from qwen3_reranker.model.checkpoint import DEMO_MODEL
from qwen3_reranker.serve import Launch, kubernetes, launch
from qwen3_reranker.serve.engines import EngineName
from qwen3_reranker.serve.options import Device

MODEL = "Qwen/Qwen3-Reranker-0.6B"
# The first version with sidecar containers, the one where they are stable, and the newest known.
VERSIONS = ("1.29", "1.33", kubernetes_validate.latest_version())
KINDS: list[tuple[EngineName, Device, str]] = [
    ("vllm", "gpu", MODEL),
    ("vllm", "cpu", "demo"),
    ("vllm-ascend", "gpu", MODEL),
    ("sglang", "gpu", MODEL),
]


def objects(text: str) -> dict[str, Any]:
    """Return the objects of manifests by their kind."""
    return {content["kind"]: content for content in yaml.safe_load_all(text)}


def pod(text: str) -> dict[str, Any]:
    found: dict[str, Any] = objects(text)["Deployment"]["spec"]["template"]["spec"]
    return found


def containers(text: str) -> dict[str, Any]:
    """Return the containers of a pod by name, in the order in which they start."""
    spec = pod(text)
    return {entry["name"]: entry for entry in spec.get("initContainers", []) + spec["containers"]}


def expanded(text: str, variables: dict[str, str]) -> str:
    """Return an argument as a container gets it: the kubelet replaces $(NAME), and $$ by $."""
    pattern = r"\$\$|\$\(([A-Za-z_]\w*)\)"
    return re.sub(pattern, lambda found: variables[found[1]] if found[1] else "$", text)


def made(engine: EngineName, device: Device, model: str, **options: Any) -> Launch:
    return launch(model, engine=engine, device=device, **options)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("engine", "device", "model"), KINDS)
@pytest.mark.parametrize("gateway", [False, True])
@pytest.mark.parametrize("template", ["server", "client"])
def test_kubernetes_accepts_every_object(
    version: str, engine: EngineName, device: Device, model: str, gateway: bool, template: Any
) -> None:
    plan = made(engine, device, model, template=template, api_key_variable="RERANK_KEY")
    found = objects(kubernetes(plan, gateway=gateway))
    for content in found.values():
        kubernetes_validate.validate(content, version, strict=True)
    expected = {"Deployment", "Service"}
    expected |= {"ConfigMap"} if plan.template else set()
    expected |= {"HorizontalPodAutoscaler"} if gateway else set()
    assert set(found) == expected


def test_the_schemas_notice_a_mistake() -> None:
    service = objects(kubernetes(made("vllm", "gpu", MODEL)))["Service"]
    service["spec"]["port"] = service["spec"].pop("ports")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, VERSIONS[-1], strict=True)


@pytest.mark.parametrize(("engine", "device", "model"), KINDS)
@pytest.mark.parametrize("gateway", [False, True])
def test_the_objects_fit_together(
    engine: EngineName, device: Device, model: str, gateway: bool
) -> None:
    plan = made(engine, device, model, port=9100)
    text = kubernetes(plan, gateway=gateway)
    found = objects(text)
    template = found["Deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    # The Service reaches exactly one container, at the port that the user chose.
    [port] = found["Service"]["spec"]["ports"]
    ports = [entry for one in containers(text).values() for entry in one.get("ports", [])]
    assert ports == [{"name": port["targetPort"], "containerPort": 9100}]
    assert port["port"] == 9100
    volumes = {volume["name"] for volume in template["spec"]["volumes"]}
    for container in containers(text).values():
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    engine_container = containers(text)["engine"]
    if plan.template is not None:
        [file] = found["ConfigMap"]["data"].items()
        assert file[1] == plan.template.read_text("utf-8")
        assert f"/etc/qwen3-reranker/{file[0]}" in engine_container["args"]
    limits = engine_container.get("resources", {}).get("limits", {})
    resource = "huawei.com/Ascend910" if engine == "vllm-ascend" else "nvidia.com/gpu"
    assert limits == ({resource: 1} if device == "gpu" else {})
    if plan.is_folder:
        assert engine_container["args"][0] == "/models/reranker"
        assert str(DEMO_MODEL) not in str(found)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("gateway", [False, True])
def test_a_container_gets_the_command_as_it_is_meant(engine: EngineName, gateway: bool) -> None:
    hostile = 'it\'s $HOME ${X} $(Y) $$(Z) `id` "!" \\ \n# $$ ü\u2028\x7f'
    plan = launch(
        f"acme/{hostile}",
        engine=engine,
        kind="causal",
        device="gpu",
        tensor_parallel=2,
        served_name=hostile,
        api_key_variable="RERANK_KEY",
    )
    text = kubernetes(plan, gateway=gateway)
    container = containers(text)["engine"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 2}
    words = [*container["command"], *(expanded(a, {"RERANK_KEY": "k"}) for a in container["args"])]
    host, port = ("127.0.0.1", "8001") if gateway else ("0.0.0.0", "8000")
    expected = plan.command(host=host, template="/etc/qwen3-reranker/template.jinja")
    flat = [word for group in expected for word in group]
    flat[flat.index("--port") + 1] = port
    assert words[: len(flat)] == flat
    # Behind the gateway, which alone reaches it, the engine has no key.
    with_key = engine == "sglang" and not gateway
    assert words[len(flat) :] == (["--api-key=k"] if with_key else [])
    secrets = {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]
        for one in containers(text).values()
        for variable in one["env"]
        if "valueFrom" in variable
    }
    key = {"name": "qwen3-reranker", "key": "api-key"}
    variable = "QWEN3_RERANKER_API_KEY" if gateway else plan.key and plan.key.target
    assert secrets["RERANK_KEY" if with_key else variable] == key
    assert secrets["HF_TOKEN"]["optional"] is True
    assert len(secrets) == 2


def test_the_gateway_alone_reaches_the_engine() -> None:
    for port, behind in ((8000, 8001), (65535, 65534)):
        text = kubernetes(made("vllm", "gpu", MODEL, port=port), gateway=True)
        engine, gateway = containers(text).values()
        # It starts before the gateway, which waits for its startup probe, and ends after it.
        assert engine["restartPolicy"] == "Always" and "startupProbe" in engine
        assert engine["args"][1:3] == ["--host", "127.0.0.1"] and "ports" not in engine
        assert gateway["args"][:2] == ["--base-url", f"http://127.0.0.1:{behind}"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            code = engine[probe]["exec"]["command"][-1]
            compile(code, "probe", "exec")
            assert f":{behind}/health" in code
        assert gateway["readinessProbe"]["httpGet"]["path"] == "/ready"
        assert gateway["livenessProbe"]["httpGet"]["path"] == "/health"
        annotations = objects(text)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(port)


def test_an_autoscaler_follows_the_gateway_and_nothing_else_sets_the_replicas() -> None:
    found = objects(kubernetes(made("vllm", "gpu", MODEL), gateway=True))
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = found["Deployment"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]
    alone = objects(kubernetes(made("vllm", "gpu", MODEL)))
    assert alone["Deployment"]["spec"]["replicas"] == 1


def test_images_and_notes() -> None:
    plan = made("vllm", "gpu", MODEL, version="0.32.0")
    text = kubernetes(plan, gateway=True)
    engine, gateway = containers(text).values()
    assert engine["image"] == "vllm/vllm-openai:v0.32.0"
    assert gateway["image"].startswith("qwen3-reranker-gateway:")
    assert "kubectl create secret generic qwen3-reranker" in text
    assert "no API key" not in text
    assert "no API key" in kubernetes(plan)
    own = kubernetes(plan, gateway=True, image="a/b:1", gateway_image="c/d:2")
    assert [one["image"] for one in containers(own).values()] == ["a/b:1", "c/d:2"]
    with pytest.raises(InputError, match="give image="):
        kubernetes(launch("demo", engine="sglang", device="cpu"))
    assert "kubectl describe node" in kubernetes(made("vllm-ascend", "gpu", MODEL))


NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@given(NAMES, NAMES, st.booleans(), st.sampled_from([MODEL, "demo"]))
@settings(max_examples=20)
def test_two_deployments_share_nothing(one: str, two: str, gateway: bool, model: str) -> None:
    assume(one != two)
    plan = made("vllm", "gpu", model, version="0.32.0", api_key_variable="RERANK_KEY")
    named = []
    for name in (one, two):
        text = kubernetes(plan, name=name, gateway=gateway)
        assert f"kubectl create secret generic {name} " in text
        found = objects(text)
        for content in found.values():
            kubernetes_validate.validate(content, VERSIONS[-1], strict=True)
        selected = found["Deployment"]["spec"]["selector"]["matchLabels"]
        named.append((set(references(list(found.values()))), selected))
    (names, labels), (others, other_labels) = named
    assert not names & others
    assert labels.items() - other_labels.items() and other_labels.items() - labels.items()


def references(content: Any) -> Iterator[str]:
    """Yield the names of all objects that manifests define or refer to."""
    if isinstance(content, list):
        for item in content:
            yield from references(item)
    elif isinstance(content, dict):
        for key in ("metadata", "scaleTargetRef", "secretKeyRef", "configMap"):
            if "name" in content.get(key, {}):
                yield content[key]["name"]
        if "persistentVolumeClaim" in content:
            yield content["persistentVolumeClaim"]["claimName"]
        for item in content.values():
            yield from references(item)


@pytest.mark.parametrize("name", ["", "A", "a_b", "1a", "a-", "-a", "a" * 64, "a\n", "ü"])
def test_a_name_that_kubernetes_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="give 1 to 63 lower-case letters"):
        kubernetes(made("vllm", "gpu", MODEL), name=name)
