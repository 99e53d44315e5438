"""Reads a Dockerfile, and checks it by the common rules of hadolint, without hadolint or Docker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

VARIABLE = re.compile(r"\$\{?(\w+)")
SHELL_ENDS = re.compile(r"&&|\|\||;")


@dataclass(frozen=True)
class Instruction:
    """A line with those that continue it; `line` is its number."""

    name: str
    text: str
    line: int

    @property
    def flags(self) -> dict[str, str]:
        return dict(re.findall(r"(?:^|\s)--([\w-]+)=(\S+)", self.text))

    @property
    def words(self) -> list[str]:
        """The words that are not flags."""
        return [word for word in self.text.split() if not word.startswith("--")]

    @property
    def commands(self) -> list[str]:
        """The shell commands of a RUN."""
        return [part.strip() for part in SHELL_ENDS.split(self.text) if part.strip()]


@dataclass
class Stage:
    """What follows a FROM."""

    base: str
    name: str
    line: int
    steps: list[Instruction] = field(default_factory=list)

    def of(self, *names: str) -> list[Instruction]:
        return [step for step in self.steps if step.name in names]


def parse(text: str) -> tuple[dict[str, str], list[Stage]]:
    """Build arguments in front of the first FROM, with defaults, and the stages."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for step in instructions(text):
        if step.name == "FROM":
            base, *alias = step.words
            stages.append(Stage(base, alias[1] if len(alias) == 2 else "", step.line))
        elif stages:
            stages[-1].steps.append(step)
        elif step.name == "ARG":
            name, _, default = step.text.partition("=")
            arguments[name] = default
        else:
            raise ValueError(f"line {step.line}: {step.name} in front of the first FROM")
    return arguments, stages


def instructions(text: str) -> Iterator[Instruction]:
    joined, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        start = start if joined else number
        joined += line.strip().removesuffix("\\") + " "
        if not line.rstrip().endswith("\\"):
            name, _, rest = joined.strip().partition(" ")
            yield Instruction(name.upper(), rest.strip(), start)
            joined = ""


def problems(text: str) -> list[str]:
    """What is wrong, as "RULE, line N: why", with hadolint's names of rules."""
    arguments, stages = parse(text)
    found = [*_bases(arguments, stages)]
    for stage in stages:
        for rule, why in RULES.items():
            found += [f"{rule}, line {line}: {why[0]}" for line in why[1](stage)]
    found += [
        f"DL3002, line {stage.line}: the last USER is root, or there is none"
        for stage in stages
        if stage.of("CMD", "ENTRYPOINT") and not _other_user(stage)
    ]
    return found


def _bases(arguments: dict[str, str], stages: list[Stage]) -> Iterator[str]:
    names: list[str] = []
    for stage in stages:
        base = VARIABLE.sub(lambda m: arguments.get(m[1], ""), stage.base).replace("}", "")
        tag = base.rpartition("/")[2].partition(":")[2]
        if base not in (*names, "scratch") and "@" not in base and not re.match(r"\d", tag):
            yield f"DL3006, line {stage.line}: {base} has no tag of a version"
        if stage.name and stage.name in names:
            yield f"DL3024, line {stage.line}: a second stage {stage.name}"
        for step in stage.of("COPY"):
            source = step.flags.get("from", "")
            if source and source not in names and ":" not in source:
                yield f"DL3022, line {step.line}: no stage {source}"
        names.append(stage.name)


def _other_user(stage: Stage) -> bool:
    users = [step.text.partition(":")[0] for step in stage.of("USER")]
    return bool(users) and users[-1] not in ("root", "0")


def _commands(pattern: str, without: str = "$^") -> Callable[[Stage], list[int]]:
    """Lines of RUNs with a command that matches `pattern` and does not contain `without`."""

    def found(stage: Stage) -> list[int]:
        return [
            step.line
            for step in stage.of("RUN")
            if any(re.search(pattern, c) and not re.search(without, c) for c in step.commands)
        ]

    return found


def _steps(*names: str) -> Callable[[Stage], list[int]]:
    return lambda stage: [step.line for step in stage.of(*names)]


def _second(*names: str) -> Callable[[Stage], list[int]]:
    return lambda stage: [step.line for name in names for step in stage.of(name)[1:]]


def _shell_form(stage: Stage) -> list[int]:
    texts = {step.line: step.text for step in stage.of("CMD", "ENTRYPOINT")}
    for step in stage.of("HEALTHCHECK"):
        texts[step.line] = step.text.partition("CMD ")[2] if "CMD " in step.text else "[]"
    return [line for line, text in texts.items() if not _is_list(text)]


def _is_list(text: str) -> bool:
    try:
        words = json.loads(text)
    except ValueError:
        return False
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def _cached_pip(stage: Stage) -> list[int]:
    if any("PIP_NO_CACHE_DIR=1" in step.words for step in stage.of("ENV")):
        return []
    return _commands(r"\bpip3? install\b", "--no-cache-dir")(stage)


def _unpinned_pip(stage: Stage) -> list[int]:
    """Pip installs whose packages are neither constrained, nor pinned, nor folders."""
    found = []
    for step in stage.of("RUN"):
        for command in step.commands:
            _, installs, rest = command.partition("pip install ")
            packages = [word.strip("'\"") for word in rest.split() if not word.startswith("-")]
            free = [word for word in packages if not re.search(r"==|^[./]|^\$", word)]
            if installs and free and not re.search(r"--constraint|--requirement|-[cr] ", rest):
                found.append(step.line)
    return found


def _relative_folders(stage: Stage) -> list[int]:
    return [step.line for step in stage.of("WORKDIR") if not step.text.startswith("/")]


def _copied_nowhere(stage: Stage) -> list[int]:
    lines = [step.line for step in stage.of("WORKDIR")]
    return [
        step.line
        for step in stage.of("COPY")
        if not step.words[-1].startswith(("/", "$")) and not any(at < step.line for at in lines)
    ]


def _kept_lists(stage: Stage) -> list[int]:
    return [
        step.line
        for step in stage.of("RUN")
        if re.search(r"apt(-get)? update", step.text)
        and not re.search(r"rm -rf? /var/lib/apt/lists", step.text)
    ]


def _runs_in_a_row(stage: Stage) -> list[int]:
    pairs = zip(stage.steps, stage.steps[1:], strict=False)
    return [second.line for first, second in pairs if first.name == second.name == "RUN"]


def _pipes(stage: Stage) -> list[int]:
    if any("pipefail" in step.text for step in stage.of("SHELL")):
        return []
    return [
        step.line
        for step in stage.of("RUN")
        if re.search(r"(?<!\|)\|(?!\|)", step.text) and "pipefail" not in step.text
    ]


RULES: dict[str, tuple[str, Callable[[Stage], list[int]]]] = {
    "DL3000": ("WORKDIR is absolute", _relative_folders),
    "DL3003": ("WORKDIR instead of cd", _commands(r"^cd\b")),
    "DL3004": ("no sudo", _commands(r"\bsudo\b")),
    "DL3008": ("apt packages have versions", _commands(r"apt(-get)? install", "=")),
    "DL3009": ("apt's lists are removed in the same step", _kept_lists),
    "DL3012": ("one HEALTHCHECK", _second("HEALTHCHECK")),
    "DL3013": ("pip's packages have versions or constraints", _unpinned_pip),
    "DL3014": ("apt-get install -y", _commands(r"apt-get install", r" (-y|--yes)\b")),
    "DL3015": ("--no-install-recommends", _commands(r"apt(-get)? install", "--no-install-rec")),
    "DL3020": ("COPY instead of ADD", _steps("ADD")),
    "DL3025": ("CMD, ENTRYPOINT and HEALTHCHECK are JSON lists", _shell_form),
    "DL3027": ("apt-get instead of apt", _commands(r"\bapt (install|update)")),
    "DL3042": ("pip keeps no cache", _cached_pip),
    "DL3045": ("COPY to a relative path needs a WORKDIR", _copied_nowhere),
    "DL3059": ("RUNs in a row are one", _runs_in_a_row),
    "DL4000": ("MAINTAINER is no more", _steps("MAINTAINER")),
    "DL4003": ("one CMD", _second("CMD")),
    "DL4004": ("one ENTRYPOINT", _second("ENTRYPOINT")),
    "DL4006": ("a pipe needs pipefail", _pipes),
}
