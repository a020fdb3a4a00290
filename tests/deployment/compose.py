"""docker/compose.yaml. Each check yields the problems that it finds."""

import functools
import pathlib
import re
import urllib.parse

import yaml

from images import image_variables, stages
from repository import PROGRAMS, ROOT, SECONDS_AFTER_DRAIN, complaints, default, made_secrets, refused_settings, text


def interpolated(value):
    """With the defaults of the variables: what Compose does where there is no .env file."""
    if isinstance(value, dict):
        return {key: interpolated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value).replace("$$", "$")
    return value


@functools.cache
def compose():
    return interpolated(yaml.safe_load(text("docker/compose.yaml")))


def names(items):
    """Of a list, a map, or a list of maps with a `source`."""
    return [item["source"] if isinstance(item, dict) else item for item in items or []]


def program_of(service):
    return service.get("build", {}).get("target")


def check_compose_file_fits_its_schema():
    yield from complaints("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker/compose.yaml")


def check_compose_file_names_only_what_exists():
    file = compose()
    made = {path.name for path in made_secrets().iterdir()}
    used = {"networks": set(), "volumes": set(), "secrets": set()}
    for name, service in file["services"].items():
        for other, how in service.get("depends_on", {}).items():
            if other not in file["services"]:
                yield f"{name} depends on {other}, which is no service"
            elif how["condition"] == "service_healthy":
                other = file["services"][other]
                if "healthcheck" not in other and program_of(other) is None:
                    yield f"{name} waits for the health of a service without a health check"
        used["networks"].update(names(service.get("networks")))
        used["secrets"].update(names(service.get("secrets")))
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if not source.startswith("."):
                used["volumes"].add(source)
            elif not (ROOT / "docker" / source).exists():
                yield f"{name} mounts {source}, which does not exist"
        if "build" in service and program_of(service) not in stages():
            yield f"{name} is built from {program_of(service)}, which is no target"
        if "image" in service and "build" not in service:
            if not re.search(r":\d+\.\d+\.\d+", service["image"]):
                yield f"{name}: {service['image']} names no version"
        mounted = {f"/run/secrets/{secret}" for secret in names(service.get("secrets"))}
        for path in re.findall(r"/run/secrets/\w+", str(service)):
            if path not in mounted:
                yield f"{name} reads {path}, which is not mounted"
    for kind, found in used.items():
        if found != set(file[kind]):
            yield f"{kind}: defined are {sorted(file[kind])}, used are {sorted(found)}"
    files = {pathlib.Path(secret["file"]).name for secret in file["secrets"].values()}
    if files != made:
        yield f"secrets: named are {sorted(files)}, docker/make-secrets makes {sorted(made)}"


def check_compose_file_lists_its_variables_in_env_example():
    used = dict(re.findall(r"\$\{(\w+):-(.*?)\}", text("docker/compose.yaml")))
    listed = dict(re.findall(r"^(\w+)=(.*)$", text("docker/.env.example"), re.M))
    if used != listed:
        yield f"used are {used}, listed are {listed}"


def check_compose_file_asks_nginx_for_its_health():
    test = compose()["services"]["nginx"]["healthcheck"]["test"]
    if test[-1] != "http://127.0.0.1:8080/nginx-health":
        yield f"it asks {test}"


def check_compose_file_publishes_nginx_alone_and_to_this_machine():
    for name, service in compose()["services"].items():
        for port in service.get("ports", []):
            if name != "nginx" or not re.fullmatch(r"127\.0\.0\.1:\d+:8080", port):
                yield f"{name} publishes {port}"


def check_compose_file_gives_settings_that_the_programs_accept():
    seen = set()
    for service in compose()["services"].values():
        program = program_of(service)
        if program is not None:
            seen.add(program)
            variables = image_variables(program) | service["environment"]
            yield from refused_settings(program, variables, "/run/secrets")
    if seen != set(PROGRAMS) - {"tidings"}:
        yield f"the programs in it are {sorted(seen)}"


def check_compose_file_leads_the_programs_to_its_databases():
    file = compose()["services"]
    url = {name: urllib.parse.urlsplit((made_secrets() / name).read_text().strip())
           for name in ("mongodb_url", "rabbitmq_urls", "redis_url")}
    for name, address in url.items():
        if address.hostname not in file:
            yield f"{name}: there is no service {address.hostname}"
        if address.username != "tidings" or not address.password:
            yield f"{name}: has not the user tidings with a password"
    if f"replicaSet={file['mongodb']['command'][2]}" not in url["mongodb_url"].query:
        yield "mongodb_url names another replica set than mongod's"


def check_compose_file_gives_time_to_drain():
    needed = int(default("ws.drain_secs")) + SECONDS_AFTER_DRAIN
    for name, service in compose()["services"].items():
        given = int(service.get("stop_grace_period", "10s").removesuffix("s"))
        if program_of(service) is not None and given < needed:
            yield f"{name} is killed after {given} s and may need {needed} s"
