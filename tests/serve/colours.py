"""A service with the network of mean colours, in a process of its own: PEOPLE PORT_FILE."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from reid_lab.serve.admission import Admission
from reid_lab.serve.command import listening_at, serve
from reid_lab.serve.guard import Limits
from reid_lab.serve.metrics import Metrics
from reid_lab.serve.people import People
from reid_lab.serve.scheduler import Scheduler, Target
from reid_lab.serve.service import Service
from tests.serve.network import Colours

if __name__ == "__main__":
    network: Any = Colours()
    people = People.open(Path(sys.argv[1]), network.manifest)
    scheduler = Scheduler(network, people, Target())
    listening = listening_at("127.0.0.1", 0)
    Path(sys.argv[2]).write_text(str(listening.getsockname()[1]))
    admission = Admission(None, scheduler.batch, 1.0)
    metrics = Metrics(scheduler, people, admission)
    service = Service(network, people, scheduler, admission, Limits(), metrics)
    serve(service, listening)
