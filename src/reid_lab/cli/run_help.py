"""`reid-lab run --help`: usage, the groups with their choices, examples."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from reid_lab.config.choices import PLUS, choices, default_choices, groups

HELP = ("-h", "--help")
FOLDER = ("--config-dir", "-cd")
WIDEST = 100  # columns of a help text
TEXT = """\
usage: reid-lab run [-m] [+experiment=NAME] [GROUP=CHOICE ...] [KEY=VALUE ...]

Train and test by a config. reid-lab run +experiment=demo is python -m reid_lab +experiment=demo.

groups with their defaults (GROUP=null leaves one out); experiment and sweep take a plus:
{groups}

keys:
  --cfg job prints the whole config with its keys, and runs nothing; docs/config.md explains them.
  KEY=VALUE changes a key, +KEY=VALUE adds one, ~KEY removes one.
  ckpt_path=last resumes the newest run of the same settings; with task=test, it is tested again.

options:
  -h, --help         show this text
  -m, --multirun     a run for each combination of values, as KEY=A,B
  --cfg job          print the config; with --package model, that of a part
  --config-dir DIR   also take choices from this folder
  --hydra-help       all options of Hydra

examples:
  reid-lab run +experiment=demo model.iterations=600
  reid-lab run +experiment=dare_market dataset.root=/data/Market-1501-v15.09.15 --cfg job
  reid-lab run -m +experiment=demo model.lr=1e-4,3e-4
"""


def help_text(words: Sequence[str] = ()) -> str:
    """The help of a run.

    Args:
        words: the other words of the command; `--config-dir` adds choices.
    """
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 0)).columns)
    more = [*_folders(words)]
    defaults, lines = default_choices(), []
    for group in groups(more):
        if found := choices(group, more):
            default = f" [{defaults[group]}]" if group in defaults else ""
            name = f"{'+' * (group in PLUS)}{group}{default}"
            lines.append(
                textwrap.fill(
                    f"{name}: {', '.join(found)}",
                    width,
                    initial_indent="  ",
                    subsequent_indent="      ",
                    break_on_hyphens=False,
                )
            )
    return TEXT.format(groups="\n".join(lines))


def _folders(words: Sequence[str]) -> Iterator[Path]:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in FOLDER and (value or following):
            yield Path(value if equals else following).expanduser()
