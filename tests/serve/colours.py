"""A service with a network of mean colours, in a process of its own.

PEOPLE PORT_FILE [FINGERPRINT [RUN]]: of the network that it starts with; it can move to `NEW`. The
page shows the accuracies of RUN.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from reid_lab.serve.admission import Admission
from reid_lab.serve.frontier import read_frontier
from reid_lab.serve.guard import Limits
from reid_lab.serve.in_force import InForce, Serving
from reid_lab.serve.metrics import Metrics
from reid_lab.serve.open import listening_at, serve
from reid_lab.serve.people import People
from reid_lab.serve.scheduler import Scheduler, Target
from reid_lab.serve.service import Service
from reid_lab.serve.upgrade import finish_interrupted
from tests.serve.clients import upgrader_to
from tests.serve.network import Colours

NEW = "new colours"
SLOW = 0.05  # seconds that the new network takes, so that it can be killed meanwhile


def opened(fingerprint: str) -> Any:
    return Colours(fingerprint, seconds=SLOW if fingerprint == NEW else 0.0)


if __name__ == "__main__":
    network = opened([*sys.argv, "colours"][3])
    path = Path(sys.argv[1])
    finish_interrupted(path, network, {})
    people = People.open(path, network.manifest)
    scheduler = Scheduler(network, people, Target())
    listening = listening_at("127.0.0.1", 0)
    Path(sys.argv[2]).write_text(str(listening.getsockname()[1]))
    admission = Admission(None, scheduler.batch, 1.0)
    frontier = [
        p for run in sys.argv[4:] for p in read_frontier(Path(run), network.manifest, "margin")
    ]
    in_force = InForce(Serving(network, people, scheduler, frontier))
    upgrader = upgrader_to(in_force, lambda: opened(NEW))
    service = Service(in_force, upgrader, admission, Limits(), Metrics(in_force, admission))
    serve(service, listening)
