"""Multiruns in which a failing job does not end others, with any of Hydra's launchers.

Hydra's launchers collect the results of their jobs, and some give up when the process of a job is
killed: joblib's pool ends the other workers, too, and submitit's launcher no longer waits for the
jobs after it. Here all jobs run to their end, and each keeps its state in its folder from the
start: not started, unfinished, done or failed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reid_lab.compat.hydra import error_of
from reid_lab.errors import UserError
from reid_lab.interrupt import status_of
from reid_lab.run.jobs import FAILED, NOT_STARTED, UNFINISHED, Job, plan_job, repeat_status

log = logging.getLogger(__name__)
SUBDIR = "${hydra.job.num}"  # conf/config.yaml's hydra.sweep.subdir
KILLED = "its process was killed, or ended early (out of memory?)"
Jobs = dict[int, Sequence[str]]  # number -> overrides


class LostJobError(UserError):
    """A job of a multirun left no result: its process ended, or the launcher lost it."""


def watch_launcher() -> None:
    """Make Hydra wrap its next launcher."""
    plugins: Any = Plugins.instance()
    if "instantiate_launcher" in vars(plugins):  # of a multirun that made none
        return
    make = plugins.instantiate_launcher

    def watched(**given: Any) -> Launcher:
        del plugins.instantiate_launcher  # the instance's; the class keeps its own
        launcher = WatchedLauncher(make(**given))
        launcher.setup(**given)
        return launcher

    # Hydra finds launchers by name among installed plugins only, and asks no one else
    plugins.instantiate_launcher = watched


class WatchedLauncher(Launcher):
    """A launcher in which every job returns something, even if it was killed.

    Args:
        inner: the launcher that starts the jobs, after its setup.
    """

    context: HydraContext
    config: DictConfig

    def __init__(self, inner: Launcher) -> None:
        self.inner = inner
        self.folders: dict[int, Path] = {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.context, self.config = hydra_context, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        jobs: Jobs = dict(enumerate(job_overrides, initial_job_idx))
        try:
            self.folders = {n: self._plan(n, overrides) for n, overrides in jobs.items()}
        except OmegaConfBaseException:  # the folders' names depend on what only a job knows
            return self.inner.launch(job_overrides, initial_job_idx)
        try:
            with _waiting_for_all(self.inner):
                returned = self.inner.launch(job_overrides, initial_job_idx)
        except BrokenProcessPool as error:
            if status_of(error) is not None:  # Ctrl-C
                raise
            self._go_on(jobs, error)
            return [self._found(n, overrides, KILLED) for n, overrides in jobs.items()]
        return [
            self._found(n, overrides, str(error_of(job)))
            if isinstance(error_of(job), LostJobError)
            else job
            for (n, overrides), job in zip(jobs.items(), returned, strict=True)
        ]

    def _plan(self, number: int, overrides: Sequence[str]) -> Path:
        """Write the status of a planned job; return its folder."""
        config, sweep = self.config, self.config.hydra.sweep
        subdir = str(number)
        if OmegaConf.to_container(sweep, resolve=False)["subdir"] != SUBDIR:  # type: ignore[index, call-overload]
            # takes a second a job
            config = self.context.config_loader.load_sweep_config(config, list(overrides))
            config.hydra.job.num = number
            subdir = config.hydra.sweep.subdir
        folder = Path(config.hydra.runtime.cwd, sweep.dir, subdir)
        plan_job(self.config, number, overrides, folder)
        return folder

    def _go_on(self, jobs: Jobs, error: BrokenProcessPool) -> None:
        """Run the remaining jobs of a broken pool: those not begun, then the others one by one.

        The pool ends all of its processes when one is killed, and does not say which one was.
        """
        cut: list[int] = []
        while True:
            before, cut = cut, self._in_state(jobs, UNFINISHED)
            waiting = self._in_state(jobs, NOT_STARTED)
            if cut != before:
                log.warning(
                    "a process was killed (out of memory?), and joblib ended the others: the jobs "
                    "that ran (%s) start again, one at a time, after the rest",
                    ", ".join(map(str, cut)),
                )
            elif waiting:  # it was killed before any job began
                raise error
            if not waiting:
                break
            try:
                for group in _consecutive(waiting):
                    self.inner.launch([jobs[n] for n in group], group[0])
            except BrokenProcessPool as again:
                error = again
        for n in cut:
            with suppress(BrokenProcessPool):  # its state says so
                self.inner.launch([jobs[n]], n)

    def _in_state(self, jobs: Jobs, status: str) -> list[int]:
        return [n for n in jobs if Job.read(self.folders[n]).status == status]

    def _found(self, number: int, overrides: Sequence[str], reason: str) -> JobReturn:
        """The result of a job that returned none, from its folder."""
        folder = self.folders[number]
        job = Job.read(folder)
        if job.status in (NOT_STARTED, UNFINISHED):
            repeat_status(folder, FAILED, reason.splitlines()[0])
            job = Job.read(folder)
            log.error("job %s: %s\nrepeat it alone: %s", number, reason, job.repeated_by())
        if job.status == FAILED:
            error = LostJobError(f"job {number}: {job.error}")
            return _failed(error, overrides)
        return JobReturn(overrides, status=JobStatus.COMPLETED)


class _Submitted:
    """A submitit job that does not raise if its process was killed."""

    def __init__(self, job: Any) -> None:
        self.job = job

    def results(self) -> list[Any]:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            returned: list[Any] = self.job.results()
        except UncompletedJobError:
            state = self.job.state  # SLURM's; a local one's is of its parent
            reason = KILLED if state in ("FINISHED", "UNKNOWN") else f"{KILLED}: {state}"
            return self._lost(f"{reason}\nits output: {self.job.paths.stderr}")
        except FailedJobError as error:  # before the job began, or its result could not be stored
            trace = str(error).split("-" * 22)[1].split("\n")
            return self._lost(next((line for line in reversed(trace) if line), KILLED))
        return returned

    def _lost(self, reason: str) -> list[Any]:
        return [_failed(LostJobError(reason))]


def _failed(error: Exception, overrides: Sequence[str] | None = None) -> JobReturn:
    job = JobReturn(overrides, status=JobStatus.FAILED)
    job.return_value = error
    return job


@contextmanager
def _waiting_for_all(launcher: Launcher) -> Iterator[None]:
    """Make submitit's launcher wait for all jobs; it reads their results one after the other."""
    if not type(launcher).__module__.startswith("hydra_plugins.hydra_submitit_launcher."):
        yield
        return
    from submitit import AutoExecutor

    executors: Any = AutoExecutor
    submit = executors.map_array

    def map_array(executor: AutoExecutor, *given: Any) -> list[_Submitted]:
        return [_Submitted(job) for job in submit(executor, *given)]

    executors.map_array = map_array
    try:
        yield
    finally:
        executors.map_array = submit


def _consecutive(numbers: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for n in numbers:
        if groups and n == groups[-1][-1] + 1:
            groups[-1].append(n)
        else:
            groups.append([n])
    return groups
