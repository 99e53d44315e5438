"""SLURM of one machine: `sbatch`, `srun`, `sacct` and `scancel` in a folder that goes into PATH.

Jobs start at once, each as `bash SCRIPT` with the variables that SLURM sets. A killed job is
OUT_OF_MEMORY. `python fake_slurm.py NAME arguments...` is the command of that name.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel")
PLACE = "FAKE_SLURM"  # the environment variable with the folder
STATES = {0: "COMPLETED", -signal.SIGKILL: "OUT_OF_MEMORY", 128 + signal.SIGKILL: "OUT_OF_MEMORY"}


def install(folder: Path) -> dict[str, str]:
    """Write the commands to `folder`; returns the environment that finds them."""
    (folder / "states").mkdir(parents=True)
    for name in COMMANDS:
        words = [sys.executable, "-S", str(Path(__file__).resolve()), name]
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (folder / name).chmod(0o755)
    return {PLACE: str(folder), "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def sbatch(script: str) -> None:
    text = Path(script).read_text()
    given = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.MULTILINE))
    given = {name: shlex.split(value)[0] for name, value in given.items()}
    place = Path(os.environ[PLACE])
    (place / "script.sh").write_text(text)
    job = 4242 + len({path.name.partition("_")[0] for path in (place / "states").iterdir()})
    last = re.match(r"0-(\d+)", given.get("array", ""))
    for task in range(int(last[1]) + 1) if last else (None,):
        name = str(job) if task is None else f"{job}_{task}"
        (place / "states" / name).write_text("RUNNING")
        if not os.fork():
            os.setsid()
            supervise(place / "script.sh", name, given)
    print(f"Submitted batch job {job}")


def supervise(script: Path, name: str, given: dict[str, str]) -> None:
    """Run a job, and note how it ended."""
    job, _, task = name.partition("_")
    tasks = given.get("ntasks-per-node", "1")
    slurm = {"JOB_ID": job, "JOBID": job, "JOB_NAME": given["job-name"], "NTASKS": tasks}
    slurm |= {"NTASKS_PER_NODE": tasks, "NPROCS": tasks, "NNODES": "1", "JOB_NUM_NODES": "1"}
    slurm |= {"NODEID": "0", "PROCID": "0", "LOCALID": "0", "NODELIST": "localhost"}
    slurm |= {"JOB_NODELIST": "localhost", "SUBMIT_DIR": str(Path.cwd()), "GTIDS": "0"}
    if task:
        slurm |= {"JOB_ID": str(int(job) + int(task)), "ARRAY_JOB_ID": job, "ARRAY_TASK_ID": task}
    env = os.environ | {f"SLURM_{key}": value for key, value in slurm.items()}
    with opened(given["output"], name, "0") as out, opened(given["error"], name, "0") as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
    status = subprocess.run(["bash", str(script)], env=env).returncode
    (script.parent / "states" / name).write_text(STATES.get(status, "FAILED"))
    os._exit(0)


def srun(*words: str) -> None:
    """Run the command once for each task, whose process is noted in tasks/.

    With the options that submitit gives, or none: then all write to the job's output. Unlike
    SLURM's, it kills no task when another one fails.
    """
    words = tuple(word for word in words if word != "--kill-on-bad-exit=1")
    files: tuple[str, ...] = ()
    if words[0].startswith("-"):
        assert words[:4:3] == ("--unbuffered", "--error") and words[1] == "--output", words
        files, words = (words[2], words[4]), words[5:]
    job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
    name = "_".join(filter(None, (job, os.environ.get("SLURM_ARRAY_TASK_ID"))))
    running: list[subprocess.Popen[bytes]] = []
    tasks = Path(os.environ[PLACE], "tasks")
    tasks.mkdir(exist_ok=True)
    for rank in map(str, range(int(os.environ["SLURM_NTASKS"]))):
        env = os.environ | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_STEP_ID": "0"}
        with ExitStack() as stack:
            out, err = [stack.enter_context(opened(f, name, rank)) for f in files] or (None, None)
            running.append(subprocess.Popen(words, env=env, stdout=out, stderr=err))
        (tasks / f"{name}-{rank}").write_text(str(running[-1].pid))
    statuses = [process.wait() for process in running]
    for rank, status in enumerate(statuses):
        if status:
            says = "Killed" if status == -signal.SIGKILL else f"Exited with exit code {status}"
            print(f"srun: error: localhost: task {rank}: {says}", file=sys.stderr)
    worst = next(filter(None, statuses), 0)
    sys.exit(128 - worst if worst < 0 else worst)


def opened(path: str, name: str, rank: str):
    job, _, task = name.partition("_")
    path = path.replace("%j", job).replace("%A", job).replace("%a", task).replace("%t", rank)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path).open("a")


def sacct(*words: str) -> None:
    assert words[:3] == ("-o", "JobID,State,NodeList", "--parsable2"), words
    jobs = {job for option, job in zip(words, words[1:], strict=False) if option == "-j"}
    print("JobID|State|NodeList")
    for path in sorted((Path(os.environ[PLACE]) / "states").iterdir()):
        if path.name.partition("_")[0] in jobs:
            print(f"{path.name}|{path.read_text()}|localhost")
            print(f"{path.name}.batch|{path.read_text()}|localhost")


def scancel(*jobs: str) -> None:
    raise SystemExit("no test cancels a job")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
