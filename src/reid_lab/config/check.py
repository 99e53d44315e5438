"""Checks a whole composed config before anything is built, and reports all errors together."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Literal

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.base import Container, Node
from omegaconf.errors import InterpolationToMissingValueError

from reid_lab.config import annotations as ann
from reid_lab.config import nodes as nodes
from reid_lab.errors import UserError

ABSENT = "(absent)"
_HYDRA_KEYS: dict[str, Any] = {
    "_target_": str,
    "_args_": list,
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
}


@dataclass(frozen=True)
class Problem:
    """One error of a config.

    `key` is dotted as on the command line, `given` the value there (`ABSENT` if there is none),
    `allowed` says in words what may stand there, and `fix` what to do.
    """

    key: str
    given: object
    allowed: str
    fix: str

    def __str__(self) -> str:
        given = ann.show(self.given)
        given = given if len(given) <= 200 else given[:197] + "..."
        lines = {"given": given, "allowed": self.allowed, "fix": self.fix}
        return "\n".join([self.key, *(f"  {name:<8} {text}" for name, text in lines.items())])


class ConfigError(UserError):
    """The config has errors; the text of this exception lists all of its `problems`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        blocks = [f"The config has {count} problem{'s' * (count != 1)}:"]
        for number, problem in enumerate(self.problems, 1):
            blocks.append(f"{number:>3}. " + str(problem).replace("\n", "\n     "))
        super().__init__("\n\n".join(blocks))


def check_config(cfg: DictConfig, settings: type | None = None) -> list[Problem]:
    """Find every problem of a composed config; nothing is built, but targets are imported.

    Every `_target_` node is bound to its target's signature, and its values are checked against
    the annotations there. `settings` is a dataclass whose fields say the same of the top level:
    a field without a default must be there, one annotated `Any` may hold any group. What an
    interpolation refers to is checked, and reported, where it stands. The key `hydra` is ignored.
    """
    checker = _Checker()
    keys = [str(key) for key in cfg if key != "hydra"]
    if settings is not None:
        checker.check_call(cfg, settings, keys)
    for key in keys:
        checker.walk(cfg, key)
    return list(checker.problems.values())


class _Checker:
    def __init__(self) -> None:
        self.problems: dict[str, Problem] = {}  # one a key: the first says enough

    def report(self, key: str, given: object, allowed: str, fix: str) -> None:
        self.problems.setdefault(key, Problem(key, given, allowed, fix))

    def walk(self, parent: Container, key: Any) -> None:
        """Check a value, and all below it."""
        name, node = nodes.dotted_key(parent, key), nodes.raw(parent, key)
        if node._is_missing():
            self.report(name, "???", "a value", f"give it: {name}=...")
        elif node._is_interpolation():
            self.resolve(name, node)
        elif isinstance(node, Container) and not node._is_none():
            if nodes.is_target(node):
                self.check_target(node)
            for child in nodes.keys_of(node):
                self.walk(node, child)

    def resolve(self, name: str, node: Node) -> None:
        try:
            node._dereference_node()
        except InterpolationToMissingValueError:
            pass  # reported where it is missing
        except Exception as error:
            allowed = f"a reference that resolves ({str(error).splitlines()[0]})"
            self.report(name, node._value(), allowed, f"correct it, or give {name} a value")

    def check_target(self, node: Any) -> None:
        name = f"{nodes.dotted_key(node)}._target_"
        try:
            path = node["_target_"]
        except Exception:
            return  # missing or unresolved: reported by walk
        try:
            target = nodes.locate(str(path))
        except LookupError as error:
            self.report(name, path, *error.args)
            return
        if callable(target):
            self.check_call(node, target, [str(key) for key in node])
        else:
            kind = type(target).__name__
            self.report(name, path, "a class or a function", f"this is a {kind}: name another")

    def check_call(self, node: DictConfig, target: Callable[..., Any], keys: list[str]) -> None:
        """Bind a node's keys to the parameters of `target`, and check the values given."""
        own = [key for key in keys if nodes.is_target(node) and key in _HYDRA_KEYS]
        for key in own:
            self.check_value(node, key, _HYDRA_KEYS[key])
        try:
            parameters = dict(inspect.signature(target).parameters)
        except (TypeError, ValueError):
            return  # a builtin that does not tell
        hints = ann.hints(target)
        open_ended = _pop(parameters, Parameter.VAR_KEYWORD)
        self.check_args(node, parameters, hints)
        for key in keys:
            if key in parameters:
                self.check_value(node, key, hints.get(key, Any), parameters[key].default)
            elif key not in own and not open_ended:
                self.report_unknown(node, key, list(parameters))
        if nodes.is_partial(node) or nodes.is_deferred(node._get_parent_container()):
            return  # code gives the rest
        for name, parameter in parameters.items():
            if parameter.default is Parameter.empty and name not in keys:
                key, allowed = nodes.dotted_key(node, name), ann.describe(hints.get(name, Any))
                self.report(key, ABSENT, allowed, f"add it: +{key}=...")

    def report_unknown(self, node: DictConfig, key: str, valid: list[str]) -> None:
        given = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore
        allowed = "one of the keys: " + ", ".join(valid) if valid else "no key at all"
        hydra = list(_HYDRA_KEYS) if nodes.is_target(node) else []
        fix = nodes.nearest(key, valid + hydra, "remove it")
        self.report(nodes.dotted_key(node, key), given, allowed, fix)

    def check_args(
        self, node: DictConfig, parameters: dict[str, Parameter], hints: dict[str, Any]
    ) -> None:
        """Check the positional `_args_`, and take their parameters out of `parameters`."""
        takes_more = _pop(parameters, Parameter.VAR_POSITIONAL)
        args = nodes.raw(node, "_args_") if "_args_" in node else None
        if not isinstance(args, ListConfig):
            return
        names = [n for n, p in parameters.items() if p.kind is not Parameter.KEYWORD_ONLY]
        for index, name in zip(nodes.keys_of(args), names, strict=False):
            self.check_value(args, index, hints.get(name, Any), parameters.pop(name).default)
        if len(args) > len(names) and not takes_more:
            given, allowed = nodes.plain(node, "_args_"), f"at most {len(names)} arguments"
            self.report(nodes.dotted_key(args), given, allowed, "remove the others")

    def check_value(
        self, parent: Container, key: Any, hint: Any, default: object = Parameter.empty
    ) -> None:
        value = nodes.plain(parent, key)
        if type(value) is type(default) and value == default:
            return  # a default may be at odds with its own annotation
        home, used = nodes.home_key(parent, key), nodes.dotted_key(parent, key)
        purpose = "" if home == used else f" (for {used})"
        for path, given, part in _misfits(value, hint):
            name, whole = home + path, not path
            if isinstance(given, DictConfig):
                name, whole = f"{nodes.dotted_key(given)}._target_", False
                given = given["_target_"]
            fix = _advice(name, given, part, default if whole else Parameter.empty)
            allowed = ann.describe(part)
            if ann.not_finite(given):
                allowed = allowed.replace("number", "finite number", 1)
            self.report(name, given, allowed + purpose, fix)


def _misfits(value: object, hint: Any, path: str = "") -> Iterator[tuple[str, object, Any]]:
    """The innermost parts of a value that do not fit: subkey, part, and its annotation."""
    if isinstance(value, nodes.Unknown):
        return
    if isinstance(value, DictConfig):
        if not _node_fits(value, hint):
            yield path, value, hint
        return
    found = []
    if isinstance(value, list | dict):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            inner = ann.element(hint, value, key)
            found += list(_misfits(child, inner, f"{path}.{key}")) if inner is not None else []
    yield from found
    if not found and nodes.is_plain(value) and not ann.accepts(hint, value):
        yield path, value, hint


def _node_fits(node: DictConfig, hint: Any) -> bool:
    try:
        target = nodes.locate(node["_target_"])
    except Exception:  # reported by walk
        return True
    known = isinstance(target, type) and not nodes.is_partial(node)
    return not known or ann.fits(target, hint)


def _advice(name: str, given: object, hint: Any, default: object) -> str:
    if isinstance(given, str):
        with suppress(yaml.YAMLError):
            bare = yaml.safe_load(given)
            if not isinstance(bare, str) and ann.accepts(hint, bare):
                return f"without quotes: {name}={ann.show(bare)}"
        values = [v for v in ann.choices(hint) if isinstance(v, str)]
        close = difflib.get_close_matches(given, values, n=1)
        if close:
            return f"did you mean {name}={close[0]}?"
    numbers = {int, float} & {*ann.options(hint)}
    text = isinstance(given, bool | int | float) and not numbers
    if text and ann.accepts(hint, ann.show(given)):
        return f"quote it, and the whole for the shell: '{name}=\"{ann.show(given)}\"'"
    if isinstance(default, bool | int | float | str):
        return f"change it; the default is {name}={ann.show(default)}"
    return f"change it: {name}=..."


def _pop(parameters: dict[str, Parameter], kind: object) -> bool:
    names = [name for name, parameter in parameters.items() if parameter.kind is kind]
    for name in names:
        del parameters[name]
    return bool(names)
