"""Check a whole composed config before anything is built, and report all errors together."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from inspect import Parameter
from typing import Annotated, Any, Literal

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)

from reid_lab.config import annotations as ann
from reid_lab.config import nodes
from reid_lab.config.choices import conf_dir
from reid_lab.config.renamed import KEYS
from reid_lab.errors import UserError, first_line
from reid_lab.output import words
from reid_lab.output.words import ABSENT, Problem

KeyPath = tuple[Any, ...]  # keys and indices, from the top of a config
FEW = 3  # choices that a fix names
_Tuple: Any = tuple  # of types that are known at runtime
HYDRA_KEYS: dict[str, Any] = {
    "_target_": str,
    "_args_": list,
    "_partial_": bool,
    "_recursive_": bool,
    "_convert_": Literal["none", "partial", "object", "all"],
}


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
    """Find all problems of a composed config; nothing is built, but targets are imported.

    The signature of every `_target_` gives a pydantic model, which validates the node's values. The
    dataclass `settings` does this for the top level: fields without a default are required, fields
    annotated `Any` may hold any group. Problems of an interpolated value are reported at the key
    where it is written. The key `hydra` is ignored.
    """
    check = _Check(cfg)
    keys = [str(key) for key in cfg if key != "hydra"]
    if settings is not None:
        check.call((), cfg, settings, keys, complete=True, deferred=False)
    for key in keys:
        check.walk(cfg, key, (), False)
    return list(check.problems.values())


class _Check:
    def __init__(self, cfg: DictConfig) -> None:
        self.raw = OmegaConf.to_container(cfg, resolve=False)
        self.problems: dict[str, Problem] = {}  # one a key: the first is enough

    def report(self, keys: Iterable[Any], given: object, allowed: str, fix: str) -> None:
        key = ".".join(map(str, keys))
        if new := KEYS.get(key):
            fix = f"it is now {new}: rename it in the file that has it"
        self.problems.setdefault(key, Problem(key, given, allowed, fix.replace("{key}", key)))

    def walk(self, parent: Any, key: Any, above: KeyPath, deferred: bool) -> None:
        """Check a value and all below it. `deferred`: Hydra does not build it."""
        path = (*above, key)
        if OmegaConf.is_missing(parent, key):
            self.report(path, "???", "a value", "give it: {key}=...")
        elif OmegaConf.is_interpolation(parent, key):
            self.resolve(parent, key, path)
        elif isinstance(node := parent[key], DictConfig):
            if nodes.is_target(node):
                self.target(path, node, deferred)
            below = deferred or not nodes.flag(node, "_recursive_", True)
            for name in node:
                self.walk(node, name, path, below)
        elif isinstance(node, ListConfig):
            for index in range(len(node)):
                self.walk(node, index, path, deferred)

    def resolve(self, parent: Any, key: Any, path: KeyPath) -> None:
        try:
            parent[key]
        except InterpolationToMissingValueError:
            pass  # reported where it is missing
        except Exception as error:
            given = OmegaConf.to_container(parent, resolve=False)[key]  # type: ignore
            allowed = f"a reference that resolves ({first_line(error)})"
            self.report(path, given, allowed, "correct it, or give {key} a value")

    def target(self, path: KeyPath, node: DictConfig, deferred: bool) -> None:
        try:
            name = str(node["_target_"])
        except Exception:
            return  # missing or unresolved: reported by walk
        try:
            target = nodes.locate(name)
        except LookupError as error:
            self.report((*path, "_target_"), name, *error.args)
            return
        if callable(target):
            partial = nodes.flag(node, "_partial_", False)
            keys = [str(key) for key in node]
            self.call(
                path, node, target, keys, complete=not partial and not deferred, deferred=deferred
            )
        else:
            owner, _, part = name.rpartition(".")
            same = nodes.same_but_case(nodes.locate(owner), part) if owner else []
            meant = f"did you mean {owner}.{same[0]}?" if same else "name another"
            fix = f"this is a {type(target).__name__}: {meant}"
            self.report((*path, "_target_"), name, "a class or a function", fix)

    def call(
        self,
        path: KeyPath,
        node: DictConfig,
        target: Callable[..., Any],
        keys: list[str],
        complete: bool,
        deferred: bool,
    ) -> None:
        """Validate a node's values by the signature of `target`."""
        below = deferred or not nodes.flag(node, "_recursive_", True)
        values = {key: nodes.plain(node, key, below) for key in keys}
        given = values.get("_args_")
        call = call_of(target, len(given) if isinstance(given, list) else 0, nodes.is_target(node))
        if call is None:
            return  # a builtin without a signature
        # a default may be at odds with its own annotation
        own = {
            key for key in values.keys() & call.defaults if _same(values[key], call.defaults[key])
        }
        try:
            call.model.model_validate({k: v for k, v in values.items() if k not in own})
        except ValidationError as error:
            self.translate(path, node, call, values, error, complete)

    def translate(
        self,
        path: KeyPath,
        node: DictConfig,
        call: Call,
        values: dict[str, Any],
        error: ValidationError,
        complete: bool,
    ) -> None:
        """Report pydantic's errors as problems, in the order of the config."""
        order = [*values, *call.hints]
        errors = error.errors(include_url=False, include_context=False)
        errors.sort(key=lambda e: order.index(str(e["loc"][0])))
        locations = [_inside(e["loc"], values) for e in errors]
        for found, (keys, value) in zip(errors, locations, strict=True):
            name = str(found["loc"][0])
            if found["type"] == "extra_forbidden":
                self.unknown(path, node, name, call)
            elif found["type"] == "missing" and not keys:
                if complete:
                    self.missing(path, name, call)
            elif any(other[: len(keys)] == keys != other for other, _ in locations):
                continue  # an element of it is reported
            elif nodes.is_known(value) or type(value) is nodes.Built:
                self.misfit((*path, *keys), keys, value, values, call)

    def missing(self, path: KeyPath, name: str, call: Call) -> None:
        fix = "add it: +{key}=..."
        if (conf_dir() / name).is_dir():  # what a group chooses, as in the YAMLs
            fix = f"add it: '+{{key}}=${{{name}}}'"
        self.report((*path, name), ABSENT, words.describe(call.hints[name]), fix)

    def unknown(self, path: KeyPath, node: DictConfig, name: str, call: Call) -> None:
        given = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore
        valid = [key for key in call.hints if key not in HYDRA_KEYS]
        fix = words.nearest(name, call.hints, "remove it: '~{key}'")
        if new := call.renamed.get(name):
            fix = f"it is now {new}: rename it in the file that has it"
        self.report((*path, name), given, words.among("key", valid), fix)

    def misfit(
        self, used: KeyPath, keys: KeyPath, given: Any, values: dict[str, Any], call: Call
    ) -> None:
        """Report a value that does not fit its annotation, at the key where it is written."""
        hint, value = call.hints[keys[0]], values[keys[0]]
        for key in keys[1:]:
            hint, value = words.element(hint, value, key), value[key]
        home = nodes.written_key(self.raw, used)
        purpose = "" if home == [*map(str, used)] else f" (for {'.'.join(map(str, used))})"
        if type(given) is nodes.Built:
            home, given = [*home, "_target_"], given.path
        if keys == ("_args_",) and isinstance(given, list):
            allowed, fix = f"at most {call.arguments} arguments", "remove the others"
        else:
            whole = len(keys) == 1 and home[-1] != "_target_" and not purpose
            default = call.defaults.get(keys[0]) if whole else None
            if default is None and len(home) == 1:
                default = _primary(home[0])
            allowed = words.describe(hint)
            fix = _advice(".".join(home), given, hint, default)
        if words.not_finite(given):
            allowed = allowed.replace("number", "finite number", 1)
        self.report(home, given, allowed + purpose, fix)


@dataclass(frozen=True)
class Call:
    """The arguments that a target takes: `hints`, and a pydantic `model` of all its keys.

    `arguments` is the maximum length of `_args_`; `renamed` has the keys of before.
    """

    model: type[BaseModel]
    hints: dict[str, Any]
    defaults: dict[str, object]
    arguments: int
    renamed: Mapping[str, str]


@cache
def call_of(target: Callable[..., Any], positional: int, node: bool) -> Call | None:
    """The arguments of `target` by key, besides `_args_`; None if it has no signature.

    Args:
        target: a class or function.
        positional: the length of `_args_`, whose parameters have no keys.
        node: whether Hydra calls it, so that `_target_` and other special keys are allowed.
    """
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None
    kinds = {parameter.kind for parameter in parameters}
    parameters = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    by_position = [p for p in parameters if p.kind is not p.KEYWORD_ONLY][:positional]
    by_key = [p for p in parameters if p not in by_position]
    hints = ann.hints(target)
    found = {p.name: hints.get(p.name, Any) for p in by_key}
    arguments = tuple(hints.get(p.name, Any) for p in by_position)
    if Parameter.VAR_POSITIONAL in kinds:
        arguments += (Any,) * (positional - len(arguments))
    if node:
        found |= HYDRA_KEYS | ({"_args_": _Tuple[arguments]} if positional else {})
    defaults = {p.name: p.default for p in by_key if p.default is not Parameter.empty}
    required = {p.name for p in by_key} - {*defaults}
    fields: dict[str, Any] = {}
    for number, (name, hint) in enumerate(found.items()):  # under any name: pydantic reserves some
        known: Any = ann.as_yaml(hint) if ann.known(hint) else Any
        kind = Annotated[known, WrapValidator(_lenient)]
        fields[f"field_{number}"] = (kind, Field(... if name in required else None, alias=name))
    extra: Any = "allow" if Parameter.VAR_KEYWORD in kinds else "forbid"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = create_model("Call", __config__=ConfigDict(**ann.STRICT, extra=extra), **fields)
    return Call(model, found, defaults, len(arguments), getattr(target, "renamed", {}))


def _same(value: object, default: object) -> bool:
    return type(value) is type(default) and value == default


def _lenient(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    """Accept what pydantic cannot check, such as a protocol that is not known at runtime."""
    try:
        return validate(value)
    except ValidationError:
        raise
    except Exception:
        return value


def _inside(loc: Iterable[Any], value: Any) -> tuple[KeyPath, Any]:
    """The keys in pydantic's `loc`, which also names the branches of unions, and their value."""
    keys: KeyPath = ()
    for part in loc:
        indices = range(len(value)) if type(value) is list else ()
        if part in (value if type(value) is dict else indices):
            keys, value = (*keys, part), value[part]
    return keys, value


def _primary(key: str) -> object:
    """The value of a top-level key in conf/config.yaml; None if it depends on others."""
    primary = OmegaConf.load(conf_dir() / "config.yaml")
    return None if OmegaConf.is_interpolation(primary, key) else OmegaConf.select(primary, key)


def _advice(name: str, given: object, hint: Any, default: object) -> str:
    if isinstance(given, str):
        with suppress(yaml.YAMLError):
            bare = yaml.safe_load(given)
            if not isinstance(bare, str) and ann.accepts(hint, bare):
                return f"without quotes: {name}={words.show(bare)}"
        values = [v for v in words.choices(hint) if isinstance(v, str)]
        close = difflib.get_close_matches(given, values, n=1)
        if close:
            return f"did you mean {name}={close[0]}?"
    numbers = {int, float} & {*words.options(hint)}
    text = isinstance(given, bool | int | float) and not numbers
    if text and ann.accepts(hint, words.show(given)):
        return f"quote it, and the whole for the shell: '{name}=\"{words.show(given)}\"'"
    if isinstance(default, bool | int | float | str):
        return f"change it; the default is {name}={words.show(default)}"
    few = [words.show(value) for value in words.choices(hint)][:FEW]
    return f"change it: {' or '.join(f'{name}={value}' for value in few or ['...'])}"
