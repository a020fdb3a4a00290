"""k8s/. Each check yields the problems that it finds."""

import functools
import re

import kubernetes_validate
import yaml

from images import image_variables, last
from repository import (
    PROGRAMS,
    SECONDS_AFTER_DRAIN,
    default,
    default_ports,
    operational_paths,
    refused_settings,
    run,
    text,
)

# The oldest and the newest Kubernetes that the manifests are for.
KUBERNETES = ("1.34", "1.37")
OVERLAYS = ("k8s/base", "k8s/overlays/production")


@functools.cache
def rendered(path):
    result = run("kubectl", "kustomize", path)
    if result.returncode != 0 or result.stderr:
        raise RuntimeError(result.stderr)
    return [document for document in yaml.safe_load_all(result.stdout) if document]


def of_kind(documents, kind):
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def selected(selector, documents):
    """The Deployments whose pods a selector means."""
    found = set()
    for name, deployment in of_kind(documents, "Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        equal = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
        one_of = all(labels.get(item["key"]) in item["values"] for item in selector.get("matchExpressions", []))
        if equal and one_of:
            found.add(name)
    return found


def containers(documents):
    for name, deployment in of_kind(documents, "Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        yield name, deployment["spec"], pod, pod["containers"][0]


def check_kubernetes_documents_fit_their_schemas():
    for path in OVERLAYS:
        for document in rendered(path):
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    name = f"{document['kind']} {document['metadata']['name']}"
                    yield f"{path}: {name}, Kubernetes {version}: {error.message} at {list(error.path)}"


def check_kubernetes_documents_name_only_what_exists():
    for path in OVERLAYS:
        documents = rendered(path)
        for name, _, pod, container in containers(documents):
            if pod["serviceAccountName"] not in of_kind(documents, "ServiceAccount"):
                yield f"{path}: {name} has no service account"
            wanted = {source["configMapRef"]["name"] for source in container.get("envFrom", [])}
            for volume in pod["volumes"]:
                wanted |= {source["configMap"]["name"] for source in volume.get("projected", {}).get("sources", [])}
            for missing in wanted - set(of_kind(documents, "ConfigMap")):
                yield f"{path}: {name} reads {missing}, which does not exist"
            if {volume["name"] for volume in pod["volumes"]} != {mount["name"] for mount in container["volumeMounts"]}:
                yield f"{path}: {name} mounts other volumes than it has"
        for name, service in of_kind(documents, "Service").items():
            if selected({"matchLabels": service["spec"]["selector"]}, documents) != {name}:
                yield f"{path}: the service {name} selects other pods"
        for kind in ("PodDisruptionBudget", "NetworkPolicy"):
            for name, document in of_kind(documents, kind).items():
                selector = document["spec"].get("selector", document["spec"].get("podSelector"))
                if not selected(selector, documents):
                    yield f"{path}: the {kind} {name} selects nothing"
        if set(of_kind(documents, "PodDisruptionBudget")) != set(of_kind(documents, "Deployment")):
            yield f"{path}: not every deployment has a budget"
        for name, ingress in of_kind(documents, "Ingress").items():
            for entry in ingress["spec"]["rules"][0]["http"]["paths"]:
                service = of_kind(documents, "Service").get(entry["backend"]["service"]["name"])
                if service is None or entry["backend"]["service"]["port"]["name"] != service["spec"]["ports"][0]["name"]:
                    yield f"{path}: the ingress {name} leads nowhere"
        for name, scaler in of_kind(documents, "HorizontalPodAutoscaler").items():
            deployment = of_kind(documents, "Deployment").get(scaler["spec"]["scaleTargetRef"]["name"])
            if deployment is None or "replicas" in deployment["spec"]:
                yield f"{path}: {name} scales nothing, or a deployment with a count of its own"


def check_kubernetes_probes_ask_what_the_programs_answer():
    for path in OVERLAYS:
        for name, _, _, container in containers(rendered(path)):
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            if name in PROGRAMS and ports != {"http": default_ports()[name]}:
                yield f"{path}: {name} has the ports {ports}"
            expected = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
            for probe, asked in expected.items():
                probe = container[f"{probe}Probe"]
                how = probe["httpGet"]
                if how["port"] not in ports:
                    yield f"{path}: a probe of {name} asks the port {how['port']}"
                if name == "nginx":
                    asked = "/nginx-health"
                elif asked not in operational_paths():
                    yield f"the programs do not answer {asked}"
                if how["path"] != asked:
                    yield f"{path}: a probe of {name} asks {how}"


def check_kubernetes_gives_settings_that_the_programs_accept():
    for path in OVERLAYS:
        documents = rendered(path)
        for name, _, pod, container in containers(documents):
            if name not in PROGRAMS:
                continue
            variables = image_variables(name)
            for source in container["envFrom"]:
                variables |= of_kind(documents, "ConfigMap")[source["configMapRef"]["name"]]["data"]
            variables |= {variable["name"]: variable["value"] for variable in container["env"]}
            if path == "k8s/base":
                variables.setdefault("TIDINGS__PUBLIC_URL", "https://chat.example.org")
            yield from refused_settings(name, variables, container["volumeMounts"][0]["mountPath"])


def check_kubernetes_pods_may_do_no_more_than_they_must():
    for path in OVERLAYS:
        for name, _, pod, container in containers(rendered(path)):
            user, rights = pod["securityContext"], container["securityContext"]
            if not (user["runAsNonRoot"] and user["runAsUser"] and user["seccompProfile"]["type"] == "RuntimeDefault"):
                yield f"{path}: {name} may run as root or without seccomp"
            if rights != {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}:
                yield f"{path}: {name} has the rights {rights}"
            if pod["automountServiceAccountToken"] is not False:
                yield f"{path}: {name} gets a token"
            if "memory" not in container["resources"]["limits"]:
                yield f"{path}: {name} may take all memory"
            image_user = "".join(last(name, "USER")).split(":")[0] if name in PROGRAMS else "101"
            if str(user["runAsUser"]) != image_user:
                yield f"{path}: {name} runs as another user than its image's"


def check_kubernetes_gives_time_to_drain():
    for path in OVERLAYS:
        for name, spec, pod, container in containers(rendered(path)):
            sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            needed = sleep + int(default("ws.drain_secs")) + SECONDS_AFTER_DRAIN
            if pod["terminationGracePeriodSeconds"] < needed:
                yield f"{path}: {name} is killed before the {needed} s that it may need"
            if name != "tidings-worker" and sleep == 0:
                yield f"{path}: {name} stops before nginx can know"
            if spec["strategy"]["rollingUpdate"] != {"maxSurge": 1, "maxUnavailable": 0}:
                yield f"{path}: {name} is replaced by {spec['strategy']}"


def check_kubernetes_scales_on_a_metric_that_exists():
    exported = re.findall(r'metrics\.gauge\("(\w+)"', text("crates/ws-push/src/metrics.rs"))
    scalers = of_kind(rendered("k8s/overlays/production"), "HorizontalPodAutoscaler")
    for name, scaler in scalers.items():
        for metric in scaler["spec"]["metrics"]:
            metric_name = metric.get("pods", {}).get("metric", {}).get("name")
            if metric_name is not None and metric_name.removeprefix("tidings_") not in exported:
                yield f"{name}: no program has the metric {metric_name}"
    if set(scalers) != {"tidings-api", "tidings-ws-push"}:
        yield f"scaled are {sorted(scalers)}"


def check_kubernetes_lets_pods_talk_on_their_ports():
    """Whoever is let in is let in on the port of each pod that the policy is for, and no other."""
    for path in OVERLAYS:
        documents = rendered(path)
        ports = {name: container["ports"][0]["containerPort"] for name, _, _, container in containers(documents)}
        for name, policy in of_kind(documents, "NetworkPolicy").items():
            for rule in policy["spec"].get("ingress", []):
                allowed = {port["port"] for port in rule["ports"]}
                expected = {ports[pod] for pod in selected(policy["spec"]["podSelector"], documents)}
                if allowed != expected:
                    yield f"{path}: {name} lets in on {sorted(allowed)}, the pods have {sorted(expected)}"
            for rule in policy["spec"].get("egress", []):
                for peer in rule.get("to", []):
                    if "namespaceSelector" in peer:
                        continue
                    allowed = {port["port"] for port in rule["ports"]}
                    expected = {ports[pod] for pod in selected(peer["podSelector"], documents)}
                    if allowed != expected:
                        yield f"{path}: {name} lets out on {sorted(allowed)}, the pods have {sorted(expected)}"
