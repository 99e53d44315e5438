"""`python -m reid_lab +experiment=... key=value ...`; see `--help`."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from reid_lab.cli.command import piped
from reid_lab.cli.run_help import HELP, help_text
from reid_lab.compat.hydra import option_names
from reid_lab.config.choices import conf_dir
from reid_lab.config.overrides import current, explain
from reid_lab.config.paths import register_resolvers
from reid_lab.errors import UserError
from reid_lab.interrupt import (
    TIME_IS_UP,
    Interrupted,
    end_with_parent,
    leave_signals,
    raise_on_signals,
    status_of,
)

register_resolvers()
FULL = "HYDRA_FULL_ERROR"
MULTIRUN = ("-m", "--multirun")
SWEEPS = ("+sweep=", "hydra.mode=MULTIRUN")  # some of conf/sweep need no -m
USAGE = """\
example: reid-lab run +experiment=demo model.lr=1e-4
reid-lab run --cfg job shows the keys"""  # the form of the other commands
_users = os.environ.get(FULL)  # =1 shows the traceback of any error
_started = False


@contextmanager
def _environment(full: str | None) -> Iterator[None]:
    before = os.environ.pop(FULL, None)
    try:
        if full is not None:
            os.environ[FULL] = full
        yield
    finally:
        os.environ.pop(FULL, None)
        if before is not None:
            os.environ[FULL] = before


@hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")
def _job(cfg: DictConfig) -> Any:
    global _started
    _started = True
    # torch is slow to import, and --help does not need it
    from reid_lab.cli.show.run import Printed
    from reid_lab.run.run import run

    with _environment(_users):  # also of the processes that it starts
        try:
            return run(cfg, Printed())
        except Interrupted as stop:
            if stop.code != TIME_IS_UP or HydraConfig.get().mode != RunMode.MULTIRUN:
                raise
            raise UserError(stop.message) from None  # of this job, while others go on


def main() -> None:
    """The command line.

    Exits with 1 when a run fails, where errors of the user are one message; with 130 on Ctrl-C
    and 143 on SIGTERM, where the message says how to resume.
    """
    raise_on_signals()
    if not _first():
        end_with_parent()
    logging.raiseExceptions = False  # no traceback where the log's disk is full
    status = piped(_main)
    leave_signals()
    sys.exit(status)


def _main() -> int:
    global _started
    _started = False  # of a command before, in the same process
    words = sys.argv[1:]
    if {*HELP} & {*words}:
        print(help_text(words), end="")
        return 0
    if wrong := command_of_reid_lab(words) or wrong_options(words) or shared_folder(words):
        print(f"error: {wrong}\n{USAGE}", file=sys.stderr)
        return 2
    words.sort(key=lambda word: word not in MULTIRUN)  # Hydra takes it before or after all keys
    sys.argv[1:] = words = current(words)
    try:
        with _environment("1"):  # Hydra leaves all errors to us
            _job()
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt, Interrupted) as error:
        if (status := status_of(error)) is not None:  # however Hydra wrapped it
            if _first():
                print(getattr(error, "message", "interrupted"), file=sys.stderr)
            return status
        assert isinstance(error, Exception)  # the others have a status
        if _users not in (None, "", "0") or not _is_users(error):
            raise
        print(explain(error, words), file=sys.stderr)
        if not _started and isinstance(error, HydraException):  # an override, or a config file
            print(USAGE, file=sys.stderr)
        print(f"{FULL}=1 shows the traceback.", file=sys.stderr)
        return 1
    finally:
        _print_pending()
    return 0


def _print_pending() -> None:
    """Print the table of a multirun, which a callback of Hydra has collected."""
    if "reid_lab.run.multirun" in sys.modules:
        from reid_lab.cli.show.run import print_pending

        print_pending()


def _first() -> bool:
    """Whether this is the first of a run's processes."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _is_users(error: Exception) -> bool:
    """Whether an error is the user's, so that it is reported without a traceback."""
    if not _started:
        return True
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    kinds = (UserError, HydraException, OmegaConfBaseException, MisconfigurationException)
    return isinstance(error, kinds)


def command_of_reid_lab(words: Sequence[str]) -> str:
    """The error where the first word is a command of `reid-lab`; else empty."""
    from reid_lab.cli.main import tree

    if not words or words[0] not in tree()[1]:
        return ""
    return f"{words[0]}: a command of reid-lab\n  fix: reid-lab {shlex.join(words)}"


def wrong_options(words: Sequence[str]) -> str:
    """The error of the first unknown option; empty if there is none."""
    known = option_names()
    for word in words:
        if word.startswith("="):
            return f"{word}: there is no key before the equals sign\n  fix: key{word}"
        name, equals, value = word.partition("=")
        if name[:2] != "--" or any(option.startswith(name) for option in known):
            continue
        if equals:
            return (
                f"{word}: keys have no dashes\n  fix: {name.lstrip('-')}={value}\n"
                "       (in a W&B sweep's command: ${args_no_hyphens} in place of ${args})"
            )
        close = get_close_matches(name, known, 1)
        fix = f"did you mean {close[0]}?" if close else f"write {name.lstrip('-')}=..., see --help"
        return f"{word}: unknown option\n  fix: {fix}"
    return ""


def shared_folder(words: Sequence[str]) -> str:
    """The error of a sweep whose jobs would all write to one `run_dir`; else empty."""
    swept = any(word in MULTIRUN or word.startswith(SWEEPS) for word in words)
    for word in words if swept else ():
        key, _, value = word.partition("=")
        if key == "run_dir" and not set(",($") & set(value):  # one value for all jobs
            return f"{word}: the jobs of a sweep cannot share it\n  fix: hydra.sweep.dir={value}"
    return ""


if __name__ == "__main__":
    main()
