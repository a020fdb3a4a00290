"""nginx, as Compose and Kubernetes configure it. Each check yields the problems that it finds."""

import os
import pathlib
import re
import shutil
import tempfile

from compose import compose, program_of
from kubernetes import OVERLAYS, of_kind, rendered
from repository import ROOT, complaints, default_ports, scratch, text


def nginx_servers(path):
    return re.findall(r"^server\s+([^\s;]+)([^;]*);", text(path), re.M)


def refused_by_nginx(files):
    """What nginx says about these files, with an address in the place of each server's name.

    The names do not exist here, and `resolve` needs a later nginx than Debian's.
    """
    directory = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    for path, content in files.items():
        if path in ("deployment/api.conf", "deployment/ws-push.conf"):
            content = re.sub(r"^resolver\w* .*\n", "", content, flags=re.M)
            content = re.sub(r"^(server )[^\s;]+( service=\S+ resolve)?", r"\g<1>127.0.0.1:9", content, flags=re.M)
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_text(content)
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    yield from complaints(nginx, "-t", "-q", "-p", str(directory), "-c", str(directory / "nginx.conf"))


def check_nginx_accepts_the_configuration_of_compose():
    directory = ROOT / "docker/nginx"
    yield from refused_by_nginx({str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*.conf")})


def check_nginx_accepts_the_configuration_of_kubernetes():
    for path in OVERLAYS:
        documents = rendered(path)
        files = {}
        for source in of_kind(documents, "Deployment")["nginx"]["spec"]["template"]["spec"]["volumes"][0]["projected"]["sources"]:
            data = of_kind(documents, "ConfigMap")[source["configMap"]["name"]]["data"]
            files |= {item["path"]: data[item["key"]] for item in source["configMap"]["items"]}
        yield from refused_by_nginx(files)


def check_nginx_of_compose_knows_every_server():
    for program in ("api", "ws-push"):
        port = default_ports()[f"tidings-{program}"]
        services = compose()["services"].items()
        expected = {f"{name}:{port}" for name, service in services if program_of(service) == f"tidings-{program}"}
        found = {server for server, _ in nginx_servers(f"docker/nginx/deployment/{program}.conf")}
        if found != expected:
            yield f"{program}.conf names {sorted(found)}, the services are {sorted(expected)}"


def check_nginx_of_kubernetes_knows_every_service():
    services = of_kind(rendered("k8s/base"), "Service")
    for program in ("api", "ws-push"):
        service = services[f"tidings-{program}"]
        if service["spec"]["clusterIP"] != "None":
            yield f"{program} has an address of its own, which hides the pods"
        metadata, port = service["metadata"], service["spec"]["ports"][0]["name"]
        expected = f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local service={port} resolve "
        found = [server + options for server, options in nginx_servers(f"k8s/base/nginx/{program}.conf")]
        if len(found) != 1 or not found[0].startswith(expected):
            yield f"{program}.conf names {found} and not {expected}"


def check_nginx_listens_where_it_is_expected():
    for path in ("docker/nginx", "k8s/overlays/production/nginx"):
        path = next((ROOT / path).rglob("listen.conf"))
        if re.findall(r"^listen (\S+)", path.read_text(), re.M) != ["8080"]:
            yield f"{path} does not listen on 8080"
    if "location = /nginx-health " not in text("docker/nginx/nginx.conf"):
        yield "nginx does not answer /nginx-health"
