"""What the rest of the repository says, and the tools to ask it."""

import os
import pathlib
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ("tidings", "tidings-api", "tidings-ws-push", "tidings-worker")
# What remains to be done after the connections have moved over.
SECONDS_AFTER_DRAIN = 20
scratch = pathlib.Path(tempfile.mkdtemp())


def text(path):
    return (ROOT / path).read_text()


def run(*command, **options):
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, **options)


def complaints(*command):
    """What a tool says about a file; nothing if it is content."""
    result = run(*command)
    if result.returncode != 0:
        yield result.stdout + result.stderr


def default(key):
    section, _, name = key.rpartition(".")
    part = text("crates/common/src/config/default.toml")
    if section:
        part = part.split(f"\n[{section}]\n")[1].split("\n[")[0]
    return re.search(rf"^{name} = (.*)$", part, re.M)[1]


def default_ports():
    types = text("crates/common/src/config/types.rs")
    ports = re.search(r"Standalone \| Self::Api => (\d+).*?WsPush => (\d+).*?Worker => (\d+)", types, re.S)
    api, ws_push, worker = map(int, ports.groups())
    return dict(zip(PROGRAMS, (api, api, ws_push, worker)))


def operational_paths():
    return set(re.findall(r'web::resource\("(/\w+)"\)', text("crates/http/src/health.rs")))


def made_secrets():
    directory = scratch / "secrets"
    if not directory.exists():
        subprocess.run([ROOT / "docker/make-secrets", directory], check=True)
    return directory


def refused_settings(program, variables, secrets_at):
    """What a program says about these variables, with the secrets of docker/make-secrets."""
    programs = os.environ.get("TIDINGS_TEST_BIN_DIR")
    if programs is None:
        yield "TIDINGS_TEST_BIN_DIR does not say where the programs are"
        return
    secrets = str(made_secrets())
    variables = {name: str(value).replace(secrets_at, secrets) for name, value in variables.items()}
    result = run(f"{programs}/{program}", "check-config", env=variables)
    if result.returncode != 0:
        yield f"{program}: {result.stderr}"
    elif f':{default_ports()[program]}"' not in result.stdout.split("\n[")[0]:
        yield f"{program} does not listen on its port:\n{result.stdout}"
    elif 'public_url = "http://0.0.0.0' in result.stdout:
        yield f"{program}: TIDINGS__PUBLIC_URL is missing"
