"""Each private part of Hydra still does what `reid_lab.compat.hydra` uses it for."""

from __future__ import annotations

from hydra.core.utils import JobReturn, JobStatus

from reid_lab.compat.hydra import error_of, option_names


def test_options_of_the_command_line() -> None:
    names = option_names()
    assert {"--multirun", "--help", "--config-dir", "--cfg", "--shell-completion"} <= {*names}
    assert all(name.startswith("--") for name in names)


def test_the_error_of_a_job() -> None:
    error = ValueError("no")
    failed = JobReturn(status=JobStatus.FAILED)
    failed.return_value = error
    assert error_of(failed) is error
    done = JobReturn(status=JobStatus.COMPLETED)
    done.return_value = 0.5
    assert error_of(done) == 0.5
