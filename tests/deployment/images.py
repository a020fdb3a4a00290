"""The Dockerfile. Each check yields the problems that it finds."""

import functools
import re
import shutil
import subprocess

from repository import PROGRAMS, ROOT, complaints, default_ports, refused_settings, run, scratch, text


@functools.cache
def stages():
    """The instructions of each stage of the Dockerfile, those of its base stages first."""
    lines = re.sub(r"\\\n(\s*#.*\n)*", " ", re.sub(r"^#.*\n", "", text("docker/Dockerfile"), flags=re.M))
    found, current = {}, []
    for line in filter(None, lines.splitlines()):
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name] = list(found.get(base, [("FROM", base)]))
        else:
            current.append((word, " ".join(rest.split())))
    return found


def last(stage, word):
    return [rest for name, rest in stages()[stage] if name == word][-1:]


def image_variables(program):
    assignments = " ".join(rest for word, rest in stages()[program] if word == "ENV")
    return dict(assignment.split("=", 1) for assignment in assignments.split())


def check_dockerfile_passes_hadolint():
    yield from complaints("hadolint", "docker/Dockerfile")


def check_dockerfile_has_an_image_of_each_program():
    for program in PROGRAMS:
        if program not in stages():
            yield f"there is no target {program}"
            continue
        expected = {
            "ENTRYPOINT": f'["{program}"]',
            "EXPOSE": str(default_ports()[program]),
            "STOPSIGNAL": "SIGTERM",
        }
        for word, rest in expected.items():
            if last(program, word) != [rest]:
                yield f"{program}: {word} is {last(program, word)} and not {rest}"
        if not "".join(last(program, "HEALTHCHECK")).endswith(f'CMD ["{program}", "health"]'):
            yield f"{program}: the health check is {last(program, 'HEALTHCHECK')}"
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", "".join(last(program, "USER"))):
            yield f"{program}: the user is {last(program, 'USER')}"


def check_dockerfile_builds_with_the_toolchain_of_the_repository():
    toolchain = re.search(r'channel = "(.*)"', text("rust-toolchain.toml"))[1]
    if f"ARG RUST_VERSION={toolchain}\n" not in text("docker/Dockerfile"):
        yield f"it does not name Rust {toolchain}"


def check_dockerfile_gets_what_cargo_needs():
    """The files that .dockerignore lets through are a whole workspace."""
    wanted = re.findall(r"^!(.*)$", text(".dockerignore"), re.M)
    context = scratch / "context"
    for path in run("git", "ls-files", "--cached", "--others", "--exclude-standard", *wanted).stdout.splitlines():
        (context / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, context / path)
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=context, capture_output=True, text=True
    )
    if metadata.returncode != 0:
        yield metadata.stderr
    packages = re.findall(r"--package (\S+)", text("docker/Dockerfile"))
    if sorted(packages) != sorted(PROGRAMS):
        yield f"it builds {packages}"


def check_image_of_the_embedded_form_accepts_its_settings():
    yield from refused_settings("tidings", image_variables("tidings"), "/nowhere")
