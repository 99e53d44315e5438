"""`python -m reid_lab +experiment=... key=value ...`; see `--help`."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from reid_lab.errors import UserError
from reid_lab.interrupt import Interrupted, raise_on_signals, status_of
from reid_lab.multirun import print_pending
from reid_lab.paths import conf_dir, register_resolvers

register_resolvers()


@hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")
def _job(cfg: DictConfig) -> Any:
    from reid_lab.run import run  # torch is slow to import, and --help does not need it

    try:
        return run(cfg)
    except UserError as error:
        raise CompactHydraException(str(error)) from error


def main() -> None:
    """The command line.

    Exits with 1 when a run fails, where errors of the user are one message; with 130 on Ctrl-C
    and 143 on SIGTERM, where the message says how to go on.
    """
    raise_on_signals()
    logging.raiseExceptions = False  # no traceback where the log's disk is full
    try:
        _job()
    except (KeyboardInterrupt, Interrupted) as stopped:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # once, of a run's processes
            print(getattr(stopped, "message", "interrupted"), file=sys.stderr)
        raise SystemExit(status_of(stopped)) from None
    finally:
        print_pending()


if __name__ == "__main__":
    main()
