"""`python -m reid_lab +experiment=... key=value ...`; see `--help`."""

from __future__ import annotations

from typing import Any

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from reid_lab.errors import UserError
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
    """The command line. Exits with 1 when a run fails; errors of the user are one message."""
    try:
        _job()
    finally:
        print_pending()


if __name__ == "__main__":
    main()
