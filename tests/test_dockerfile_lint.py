"""The Dockerfile keeps hadolint's common rules, and copies files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.dockerfile import RULES, parse, problems

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
# a good one, and what in it is replaced by what so that a rule is broken
GOOD = """
ARG PYTHON=3.13
FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY a ./
RUN python -m pip install --constraint c.txt b \\
    # a comment between
    && apt-get update && apt-get install -y --no-install-recommends d=1 \\
    && rm -rf /var/lib/apt/lists/*
FROM python:3.13-slim
COPY --from=build /a /a
USER 1000
HEALTHCHECK CMD ["true"]
ENTRYPOINT ["a"]
CMD ["b"]
"""
BROKEN = {
    "DL3000": ("WORKDIR /src", "WORKDIR src"),
    "DL3002": ("USER 1000", "USER root"),
    "DL3003": ("&& rm", "&& cd /tmp && rm"),
    "DL3004": ("&& rm", "&& sudo true && rm"),
    "DL3006": ("python:3.13-slim", "python:latest"),
    "DL3008": ("d=1", "d"),
    "DL3009": ("rm -rf /var/lib/apt/lists/*", "true"),
    "DL3012": ("HEALTHCHECK", "HEALTHCHECK NONE\nHEALTHCHECK"),
    "DL3013": ("--constraint c.txt", "--quiet"),
    "DL3014": ("install -y", "install"),
    "DL3015": ("--no-install-recommends", ""),
    "DL3020": ("COPY a", "ADD a"),
    "DL3022": ("--from=build", "--from=built"),
    "DL3024": ("FROM python:3.13-slim", "FROM python:3.13-slim AS build"),
    "DL3025": ('CMD ["b"]', "CMD b"),
    "DL3027": ("apt-get update", "apt update"),
    "DL3042": ("ENV PIP_NO_CACHE_DIR=1", "ENV A=1"),
    "DL3045": ("WORKDIR /src", "ENV A=1"),
    "DL3059": ("RUN ", "RUN true\nRUN "),
    "DL4000": ("USER 1000", "MAINTAINER me\nUSER 1000"),
    "DL4003": ('CMD ["b"]', 'CMD ["a"]\nCMD ["b"]'),
    "DL4004": ("ENTRYPOINT", 'ENTRYPOINT ["b"]\nENTRYPOINT'),
    "DL4006": ("&& rm", "&& true | true && rm"),
}


def test_the_dockerfile_keeps_the_rules() -> None:
    assert problems(TEXT) == []


def test_every_rule_is_tried() -> None:
    assert problems(GOOD) == []
    assert {*BROKEN} == {*RULES} | {"DL3002", "DL3006", "DL3022", "DL3024"}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_found(rule: str) -> None:
    assert GOOD.replace(*BROKEN[rule]) != GOOD
    assert rule in {problem.partition(",")[0] for problem in problems(GOOD.replace(*BROKEN[rule]))}


def test_a_healthcheck_is_a_list_too() -> None:
    broken = GOOD.replace('CMD ["true"]', "CMD curl localhost")
    assert [problem[:6] for problem in problems(broken)] == ["DL3025"]


def test_what_is_copied_is_there_and_in_the_context() -> None:
    """`.dockerignore` leaves out all that it does not name."""
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert kept[0] == "*"
    for stage in parse(TEXT)[1]:
        for step in stage.of("COPY"):
            for path in () if "from" in step.flags else step.words[:-1]:
                assert (ROOT / path).exists() and f"!{path}" in kept, path


def test_only_a_user_s_process_listens_on_all_addresses() -> None:
    """The stages that listen on all addresses do not run as root."""
    (stage,) = (stage for stage in parse(TEXT)[1] if stage.name == "serve")
    assert re.fullmatch(r"[1-9]\d*", stage.of("USER")[-1].text)
    (port,) = stage.of("EXPOSE")
    assert port.line > stage.of("USER")[-1].line and 1024 <= int(port.text) < 65_536
