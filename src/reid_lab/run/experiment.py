"""An experiment of the configs, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reid_lab.config.choices import default_choices
from reid_lab.config.overrides import composed
from reid_lab.output.arguments import path, texts
from reid_lab.run.run import run


def run_experiment(overrides: str | Sequence[str], run_dir: Path | str) -> dict[str, float]:
    """Train and test an experiment as `reid-lab run` does.

    Processes that render and decode images import the calling script: call it below
    `if __name__ == "__main__":`. Notes and warnings are logged below `reid_lab`.

    Args:
        overrides: words of the command line, one or several, such as
            ["+experiment=demo", "model.lr=1e-4"].
        run_dir: folder of the results: `config.yaml`, checkpoints, tables, report.

    Returns:
        The test's metrics by name, such as `test/fusion/rank1`, from 0 to 1.

    Raises:
        UserError: an unknown key or value; a ConfigError has all that is wrong with the config or
            the data, before the first batch.
        DivergedError: a loss that is not finite.
        Interrupted: Ctrl-C or SIGTERM; its message says how to resume.
    """
    overrides = texts("overrides", overrides)
    folder = str(path("run_dir", run_dir)).replace("\\", "\\\\").replace('"', '\\"')
    return run(composed([*overrides, *_name(overrides), f'run_dir="{folder}"']))


def _name(overrides: Sequence[str]) -> list[str]:
    """The run's name as Hydra's command line chooses it; none if it is given."""
    given = {key.strip("+"): value for key, _, value in (w.partition("=") for w in overrides)}
    if "name" in given:
        return []
    chosen = {**default_choices(), **given}
    name = given.get("experiment") or f"{chosen['model']}_{chosen['dataset']}"
    return [f"name={name.strip('[]').replace(',', '_')}"]
