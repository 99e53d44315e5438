"""Old names: those that still work, with a warning, and those whose error gives the new form."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from reid_lab.config.roles import RENAMED

log = logging.getLogger(__name__)
SIZES = ("small", "medium", "large")
EXPERIMENTS = {  # old name -> new name, and what it set
    f"han_{size}_{data}": (f"han_{data}", f"model.size={size}")
    for size in SIZES
    for data in ("market", "cuhk03", "duke", "msmt17")
}
EXPERIMENTS["dare_densenet_market"] = ("dare_market", "backbone=densenet201")
EXPERIMENTS |= {
    f"{network}_{data}_scratch": (f"scratch_{data}", f"backbone={network}")
    for network in ("mobilenet", "shufflenet", "condensenet")
    for data in ("market", "cuhk03")
}
LARGE = ("han_market", "model.size=large")
SWEEPS = {  # of which each brought its experiment
    **dict.fromkeys(["han_fig6", "han_table10", "han_table11", "han_table12", "han_table9"], LARGE),
    "han_table8": ("han_market",),
    **dict.fromkeys(
        ["jlml_table10", "jlml_table11", "jlml_table12"],
        ("jlml_market",),
    ),
    "distill_table2": ("mobilenet_market",),
    "distill_temperature": ("distill_market",),
    "lomo_fig7": ("lomo_market",),
    "pla_fig3": ("pla_market_fixed",),
}
KEYS = {  # old -> new, with all keys below
    "dataset.reader.companions": "dataset.reader.multi_query",
    "callbacks.thresholds": "callbacks.exit_thresholds",
}
# group -> choice that is no file any more -> the overrides that it was
REMOVED = {
    "experiment": {
        "jlml_cuhk03_np": "+experiment=jlml_market dataset=cuhk03_np",
        "jlml_grid": "+experiment=jlml_market dataset=grid",
        "jlml_joint": "+experiment=jlml_market dataset=joint_whole",
        "jlml_viper": "+experiment=jlml_market dataset=viper",
        "lomo_cuhk03": "+experiment=lomo_market dataset=cuhk03_np",
        "lomo_duke": "+experiment=lomo_market dataset=dukemtmc",
        "lomo_synthetic": "+experiment=lomo_market dataset=synthetic",
        "mobilenet05_market": "+experiment=mobilenet_market backbone.alpha=0.5",
        "mobilenet075_market": "+experiment=mobilenet_market backbone.alpha=0.75",
        "pla_market_holistic": "+experiment=pla_market_fixed 'model.k=[${dataset.k},1]'",
        "pla_synthetic_cross_entropy": (
            "+experiment=pla_synthetic_fixed model.objective=cross_entropy"
        ),
        "pla_synthetic_holistic": "+experiment=pla_synthetic_fixed 'model.k=[${dataset.k},1]'",
        "pla_synthetic_random": "+experiment=pla_synthetic callbacks.progressive.choose=random",
        "pla_synthetic_rounds": (
            "+experiment=pla_synthetic callbacks.progressive.choose=random "
            "'callbacks.progressive.triplet_weight=[1,1]' 'callbacks.progressive.margin=[0,0]' "
            "'callbacks.progressive.k=[1,1]' 'callbacks.progressive.p=[1,1]'"
        ),
        "pla_synthetic_triplet": "+experiment=pla_synthetic_fixed model.objective=triplet",
        "se_resnets_market": "+experiment=dare_market model=se_resnets",
        "se_small_demo": "+experiment=demo model=se_small",
    },
    "sweep": {
        "han_hard_lr": "-m +experiment=han_market model.hard_lr=1,0.1,0.01,0.001",
        "han_local_norm": "-m +experiment=han_market model.local_norm=pooled,regions",
        "jlml_fc_std": "-m +experiment=jlml_market model.fc_std=null,0.01,0.001",
        "jlml_parts": "-m +experiment=jlml_market model.parts=1,2,4,6,8",
        "jlml_table9": "-m +experiment=jlml_market +sweep=seeds",
        "learning_rate": "-m model.lr=1e-4,3e-4,1e-3",
        "pla_last_stride": "-m +experiment=pla_market backbone.last_stride=1,2",
        "pla_synthetic": "-m +experiment=pla_synthetic,pla_synthetic_fixed",
    },
}
PARAMETERS = {old for names in RENAMED.values() for old in names}  # last parts of old keys


def with_new_names(words: Sequence[str]) -> list[str]:
    """The overrides of a command with old names replaced, each with a warning."""
    words = [_key(word) for word in words if not _without_effect(word)]
    written = [new for word in words for new in _experiment(word, words)]
    sweeps = [word.removeprefix("+sweep=") for word in written if word.startswith("+sweep=")]
    if sweeps and sweeps[0] in SWEEPS:
        written = _with_experiment(written, *SWEEPS[sweeps[0]])
    for word in written:
        key, _, value = word.partition("=")
        if key.endswith("model.milestones") and "." in value:
            log.warning("%s: give steps, or epochs and %s.epoch", word, key.rpartition(".")[0])
    return written


def _key(word: str) -> str:
    key, equals, value = word.partition("=")
    bare = key.lstrip("+~")
    old = next((old for old in KEYS if f"{bare}.".startswith(f"{old}.")), None)
    if old is None:
        return word
    new = f"{key.removesuffix(bare)}{KEYS[old]}{bare.removeprefix(old)}{equals}{value}"
    log.warning("%s is now %s", word, new)
    return new


def _without_effect(word: str) -> bool:
    if not re.match(r"\+{0,2}callbacks\.\w+\.folder=", word):
        return False
    log.warning("%s has no effect: all tables of a run are in run_dir", word)
    return True


def _experiment(word: str, words: Sequence[str]) -> list[str]:
    """One override; `+experiment=OLD` becomes its replacement, in runs of the old name."""
    key, _, value = word.partition("=")
    names = value.split(",")
    if key not in ("+experiment", "experiment") or not {*names} <= {*EXPERIMENTS}:
        return [word]
    found = [EXPERIMENTS[name] for name in names]
    axes = [",".join(dict.fromkeys(axis)) for axis in zip(*found, strict=True)]
    choices = axes[1].replace(f",{axes[1].partition('=')[0]}=", ",")
    if len(names) != len(axes[0].split(",")) * len(choices.split(",")):
        return [word]  # no product of the two: Hydra refuses it
    new = [f"{key}={axes[0]}", choices]
    log.warning("%s is now %s", word, " ".join(new))
    named = len(names) > 1 or any(word.startswith("name=") for word in words)
    return new if named else [*new, f"name={value}"]  # where ckpt_path=last looks


def _with_experiment(words: list[str], experiment: str, *more: str) -> list[str]:
    given = [word for word in words if word.lstrip("+").startswith("experiment=")]
    if any(word.startswith("+") for word in given):
        return words
    sweep = next(word for word in words if word.startswith("+sweep="))
    new = [f"+{word}" for word in given] or [f"+experiment={experiment}", *more]
    log.warning("%s is now written %s %s", " ".join([*given, sweep]), " ".join(new), sweep)
    return [*new, *(word for word in words if word not in given)]
