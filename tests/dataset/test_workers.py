"""No worker outlives its parent process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reid_lab.dataset import workers

POOL = """
import os, sys, time
from reid_lab.dataset.workers import interrupts_ignored, worker_pool

if __name__ == "__main__":
    pool = worker_pool(2)
    with interrupts_ignored():
        jobs = [pool.submit(os.getpid) for _ in range(8)]
    print(*{job.result() for job in jobs}, flush=True)
    busy = [pool.submit(time.sleep, 60) for _ in range(2)] if sys.argv[1] == "busy" else []
    time.sleep(60)
"""
LOADER = """
import time
from torch.utils.data import DataLoader
from reid_lab.dataset.workers import follow_parent


def start(worker):
    follow_parent(worker)
    time.sleep(1)  # torch starts to watch the parent after this, when it has been killed


if __name__ == "__main__":
    batches = iter(DataLoader(range(8), num_workers=2, worker_init_fn=start))
    time.sleep(0.5)
    print(*[worker.pid for worker in batches._workers], flush=True)
    time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.system
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(("program", "how"), [(POOL, "idle"), (POOL, "busy"), (LOADER, "")])
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, program: str, how: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(program)
    source = str(Path(workers.__file__).parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script), how],
        env=os.environ | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert pids and all(map(alive, pids))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(10)
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, pids
        time.sleep(0.05)
