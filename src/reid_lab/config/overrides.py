"""Compose the overrides of the command line, or explain why Hydra refuses them."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from inspect import signature
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reid_lab.config.choices import PLUS, choices, conf_dir, groups
from reid_lab.config.nodes import locate
from reid_lab.config.paths import register_resolvers
from reid_lab.config.relevance import new_names
from reid_lab.config.renamed import PARAMETERS, REMOVED, with_new_names
from reid_lab.errors import UserError, causes
from reid_lab.output.arguments import texts

log = logging.getLogger(__name__)
SPECIAL = re.compile(r"[=,:(){}\[\]\s'\"\\]")  # characters that Hydra takes for syntax in a value


def composed(words: str | Sequence[str]) -> DictConfig:
    """The config as `python -m reid_lab` composes it.

    Raises:
        UserError: Hydra refuses an override; the message says how to write it.
    """
    register_resolvers()
    words = current(texts("words", words))
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("config", overrides=list(words))
    except Exception as error:  # Hydra raises any, as ValueError
        raise UserError(explain(error, words)) from error


def current(words: Sequence[str]) -> list[str]:
    """The overrides of a command, those of before replaced, each with a warning."""
    words = with_new_names(words)
    return without_nulls([_with_new_parameter(word, words) for word in words])


def _with_new_parameter(word: str, words: Sequence[str]) -> str:
    key, equals, value = word.partition("=")
    bare = key.lstrip("+~")
    parent, _, last = bare.rpartition(".")
    if last not in PARAMETERS or not equals:
        return word
    node = OmegaConf.select(_others(key, words), parent, throw_on_missing=False)
    if not isinstance(node, DictConfig) or last in node or last not in (names := new_names(node)):
        return word
    new = f"{parent}.{names[last]}={value}"
    log.warning("%s is now %s", word, new)
    return new


def without_nulls(words: Sequence[str]) -> list[str]:
    """Replace `group=null`, which Hydra lacks, by `~group`."""
    nulls = {f"{group}=null": f"~{group}" for group in groups()}
    return [nulls.get(word, word) for word in words]


def explain(error: Exception, words: Sequence[str]) -> str:
    """Explain which override is wrong and how to write it; else the error's own message."""
    for cause in causes(error):  # a resolver's own error, inside of theirs
        if isinstance(cause, UserError):
            return str(cause)
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        fix = "hydra.run.dir=/a/folder/of/yours, or free space and rights there"
        return f"the run's folder cannot be made: {error}\n  fix: {fix}"
    text = str(error).strip()
    if isinstance(error, OverrideParseException):
        given = str(error.override)
        text = f"{given}: not a valid key=value ({text.splitlines()[0]})"
        return f"{text}\n  fix: {_written(given, words)}"
    if isinstance(error, MissingConfigException):
        group, _, choice = str(error.missing_cfg_file).partition("/")
        return _unknown_choice(group, choice) if group in groups() else text
    if isinstance(error, HydraException):
        cfg = _others("", words)
        wrong = {word: why for word in words if (why := _wrong(word, words, cfg))}
        if wrong:
            return "\n".join([*wrong.values(), *_beside([w for w in words if w not in wrong])])
    if found := re.search(r"Could not override '([\w.]+)'", text):  # in a sweep's file
        return _unknown_key(found[1], words)
    if isinstance(error.__cause__, OmegaConfBaseException) and str(error.__cause__) not in text:
        text += f"\n{error.__cause__}"
    return text


def _beside(words: Sequence[str]) -> Iterable[str]:
    """The invalid values among the other overrides, if these can be composed."""
    # torch is slow to import, and only needed here
    from reid_lab.config.check import ConfigError
    from reid_lab.config.settings import check_settings

    # run_dir: Hydra's folder is not made yet
    others = ["run_dir=.", *filter(None, map(first_value, words))]
    with suppress(Exception), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        if problems := check_settings(compose("config", overrides=others)):
            yield str(ConfigError(problems))


def _wrong(word: str, words: Sequence[str], cfg: DictConfig) -> str:
    """How to write an override with several values or an unknown key; else empty."""
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException:  # an option, or what follows one
        return ""
    key, _, value = word.partition("=")
    if override.is_sweep_override() and not {"-m", "--multirun"} & {*words}:
        return _several(key, value)
    if override.is_add() or override.is_delete() or key.startswith("hydra") or "@" in key:
        return ""
    if key in PLUS:
        return f"{key}: this group is added with a plus\n  fix: +{key}={value}"
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(cfg, parent, throw_on_missing=False) if parent else cfg
    # `in` is false of a value that is missing
    known = last in {*node} if isinstance(node, DictConfig) else isinstance(node, ListConfig)
    if not known:
        return _unknown_key(key, words)
    given = override.value()
    if not isinstance(given, dict):  # other values may be known to Hydra's command line alone
        return ""
    kept = OmegaConf.select(cfg, key, throw_on_missing=False)
    if isinstance(kept, DictConfig):
        return _merged(key, kept, {str(name): entry for name, entry in given.items()})
    return ""


def _written(word: str, words: Sequence[str]) -> str:
    """How to write an override that cannot be parsed."""
    key, equals, value = word.partition("=")
    if not equals:
        after = list(words[words.index(word) + 1 :]) if word in words else []
        value = after[0] if after and "=" not in after[0] else "..."
        return f"give a value with an equals sign and no spaces: {word}={value}"
    if not key:
        return "write a key before the equals sign: key=value"
    if SPECIAL.search(value):
        return f"quote the value, and the whole for the shell: {quoted(key, value)}"
    return "write key=value; see --help"


def _several(key: str, value: str) -> str:
    return (
        f"{key}={value}: a comma separates values\n"
        f"  fix: a run for each of them: -m {key}={value}\n"
        f"       a list: '{key}=[{value}]'\n"
        f"       one value with a comma in it: {quoted(key, value)}"
    )


def _merged(key: str, kept: DictConfig, given: Mapping[str, Any]) -> str:
    """How to replace a mapping, into which Hydra only merges keys that it has; else empty."""
    if not given.keys() - kept.keys():
        return ""
    words = [f"~{key}.{name}" for name in map(str, kept) if name not in given]
    for name, value in given.items():
        plus = "" if name in kept else "+"
        words.append(f"{plus}{key}.{name}={'null' if value is None else value}")
    have = ", ".join(map(str, kept)) or "none"
    return f"{key}: a mapping is merged key by key; it has {have}\n  fix: {shlex.join(words)}"


def quoted(key: str, value: str) -> str:
    """An override quoted for a shell."""
    value = value.strip("'\"").replace("\\", "\\\\").replace('"', '\\"')
    return f"""'{key}="{value}"'"""


def _unknown_key(key: str, words: Sequence[str]) -> str:
    """Advice for an unknown key: a similar key, or a plus."""
    word = next((word for word in words if word.split("=")[0] == key), f"{key}=...")
    value = word.partition("=")[2]
    cfg = _others(key, words)
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(cfg, parent, throw_on_missing=False) if parent else cfg
    if parent and node is None and parent in _keys(cfg):
        return (
            f"{key}: {parent} is null, and has no keys\n  fix: leave out {key}=... or {parent}=null"
        )
    if isinstance(node, DictConfig) and (new := new_names(node).get(last)):
        return f"{key}: unknown key\n  fix: it is now {parent}.{new}={value}"
    if isinstance(node, DictConfig) and last in _parameters(node):
        return f"{key}: the config has no value for it yet\n  fix: add it with a plus: +{word}"
    keys = list(_keys(cfg))
    if isinstance(node, DictConfig):
        names = [*map(str, node), *_parameters(node)]
        close = [f"{parent}.{name}".lstrip(".") for name in get_close_matches(last, names, 3)]
    else:
        close = get_close_matches(key, keys, 3)
    same = [k for k in keys if k.rpartition(".")[2] == last]  # the right name in another group
    return f"{key}: unknown key\n  fix: {_nearest(close or same[:3], value)}"


def _nearest(names: Sequence[str], value: str) -> str:
    if not names:
        return "--cfg job prints the config with its keys"
    return f"did you mean {' or '.join(f'{name}={value}' for name in dict.fromkeys(names))}?"


def _unknown_choice(group: str, choice: str) -> str:
    names = choices(group)
    plus = "+" * (group in PLUS)
    if now := REMOVED.get(group, {}).get(choice):
        text = f"{plus}{group}={choice}: is now overrides of another recipe\n  fix: {now}"
        return text + f"\n       name={choice} finds its runs" * (group == "experiment")
    close = [f"{plus}{group}={name}" for name in get_close_matches(choice, names, 3)]
    fix = f"did you mean {' or '.join(close)}?" if close else "take one of these"
    allowed = ", ".join(names)
    return f"{group}={choice}: unknown choice\n  allowed: {allowed}\n  fix: {fix}"


def _others(key: str, words: Sequence[str]) -> DictConfig:
    """The config of the other overrides; the bare config if these are wrong, too."""
    singles = filter(None, map(first_value, words))
    others = [word for word in singles if word.split("=")[0] != key]
    wide = [word for word in others if "." not in word.split("=")[0]]  # groups, experiments
    for chosen in (others, wide, []):
        with suppress(Exception), initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("config", overrides=chosen)
    return OmegaConf.create({})


def first_value(word: str) -> str:
    """An override as in the first run of a sweep; empty for options and invalid words."""
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException:
        return ""
    if not override.is_sweep_override():
        return word
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


def _parameters(node: DictConfig) -> dict[str, object]:
    """The parameters of a node's target."""
    try:
        return dict(signature(locate(node["_target_"])).parameters)
    except Exception:  # no target, or one without a signature
        return {}


def _keys(node: DictConfig, prefix: str = "") -> Iterable[str]:
    for name in map(str, node):
        yield f"{prefix}{name}"
        if OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name):
            continue
        if isinstance(node[name], DictConfig):
            yield from _keys(node[name], f"{prefix}{name}.")
