"""Runs every function named check_* of the modules beside this one: the checks of tests/manifests."""

import shutil
import sys

import compose
import images
import kubernetes
import nginx
from repository import scratch


def checks():
    for module in (images, compose, nginx, kubernetes):
        for name, function in vars(module).items():
            if name.startswith("check_"):
                yield name, function


def main():
    passed = failed = 0
    for name, check in checks():
        try:
            problems = list(check())
        except Exception as error:  # a file that cannot even be read as expected
            problems = [f"{type(error).__name__}: {error}"]
        title = name.removeprefix("check_").replace("_", " ")
        if problems:
            failed += 1
            print(f"FAILED {title}", *problems, sep="\n    ")
        else:
            passed += 1
            print(f"ok {title}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        shutil.rmtree(scratch)
