"""Load on the service: throughput, latency, share by exit and Rank-1, with and without early exit.

    python -m experiments.bench_serve --model exported --images SYNTHETIC \\
        --gallery g_stage1 g_stage2 g_stage3 g_fusion --out experiments/bench_serve/load.csv

Closed loop: so many clients, each sends its next query when the last one is answered. Open loop:
queries arrive at a fixed rate, twice what the whole network alone can take, answered or not;
`refused` are those that the service refuses (503), `errors` those with any other status than 200;
`sent_late_p99_ms` is how late the client itself was. Clients and service share the machine.
A request has one image, or `--images-per-request` of one camera; all counts and rates are of
images, times from a request to its answer are of requests.
`cpu_ms` is the processor time of the service per query: other work on the machine and the clients
are not in it. `planned_ms` is what an image takes in full batches at a mean budget, and `whole_ms`
at the last exit, as the service expects from what it measured at its start.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from reid_lab.results.provenance import commit, machine

NAME = re.compile(r"([-\d]+)_c(\d+)")
BOUNDARY = "----reid-lab"
IDLE = 2.0  # seconds after which a connection is not used again; uvicorn closes it after 5


@dataclass(frozen=True)
class Query:
    """A request: its body, and who is in each of its images."""

    body: bytes
    pids: tuple[str, ...]


@dataclass
class Measured:
    """Answers of one arm."""

    seconds: list[float] = field(default_factory=list)
    exits: Counter[str] = field(default_factory=Counter)
    right: int = 0
    late: int = 0
    refused: int = 0  # 503: the answer would have taken too long
    errors: int = 0  # any other status than 200
    mul_adds: float = 0.0
    delays: list[float] = field(default_factory=list)  # of sending, in seconds

    def add(self, query: Query, status: int, content: bytes, seconds: float) -> None:
        if status != 200:
            self.refused += len(query.pids) * (status == 503)
            self.errors += len(query.pids) * (status != 503)
            return
        self.seconds.append(seconds)
        for result, pid in zip(json.loads(content)["results"], query.pids, strict=True):
            self.exits[result["exit"]] += 1
            self.late += result["late_ms"] > 0
            self.mul_adds += result["mul_adds"]
            self.right += result["matches"][0]["pid"] == pid


def own(path: Path) -> tuple[str, str]:
    """The pid and camid in a file's name."""
    found = NAME.match(path.name)
    assert found, path
    return str(int(found[1])), str(int(found[2]))


def read_queries(folder: Path, size: int = 1) -> list[Query]:
    """Requests with `size` images of one camera each; what is left of a camera is left out."""
    cameras: defaultdict[str, list[tuple[bytes, str]]] = defaultdict(list)
    queries = []
    for path in sorted((folder / "query").glob("*.jpg")):
        pid, camid = own(path)
        cameras[camid].append((path.read_bytes(), pid))
        if len(cameras[camid]) == size:
            images, pids = zip(*cameras.pop(camid), strict=True)
            queries.append(Query(form(images, camid), pids))
    return queries


def form(images: Sequence[bytes], camid: str) -> bytes:
    """A search among the images of the other cameras."""
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="exclude_camid"\r\n\r\n{camid}\r\n'
    ).encode()
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="q.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode()
    body += b"".join(head + image + b"\r\n" for image in images)
    return body + f"--{BOUNDARY}--\r\n".encode()


def closed(port: int, queries: Sequence[Query], clients: int, count: int) -> tuple[Measured, float]:
    """`count` images by `clients` at a time; the answers and the seconds that it took."""
    measured = Measured()
    return measured, uvloop.run(_closed_loop(measured, port, queries, clients, count))


async def _closed_loop(
    measured: Measured, port: int, queries: Sequence[Query], clients: int, count: int
) -> float:
    numbers = iter(range(count // len(queries[0].pids)))

    async def client() -> None:
        connection = await Connection.open(port)
        for number in numbers:
            query, start = queries[number % len(queries)], time.perf_counter()
            measured.add(query, *await connection.ask(query), time.perf_counter() - start)
        connection.close()

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return time.perf_counter() - begin


def opened(
    port: int, queries: Sequence[Query], rate: float, seconds: float
) -> tuple[Measured, float]:
    """Images that arrive at `rate` a second, answered or not; each counts from when it was due.

    No query waits in the client: it takes a connection that is idle, or a new one.
    """
    measured = Measured()
    return measured, uvloop.run(_open_loop(measured, port, queries, rate, seconds))


async def _open_loop(
    measured: Measured, port: int, queries: Sequence[Query], rate: float, seconds: float
) -> float:
    idle: list[tuple[float, Connection]] = []

    async def ask(query: Query, due: float) -> None:
        since, connection = idle.pop() if idle else (0.0, None)
        if connection and time.perf_counter() - since > IDLE:
            connection.close()  # the service may close it at the same time
            connection = None
        connection = connection or await Connection.open(port)
        measured.delays.append(time.perf_counter() - due)
        measured.add(query, *await connection.ask(query), time.perf_counter() - due)
        idle.append((time.perf_counter(), connection))

    begin, tasks = time.perf_counter(), []
    rate /= len(queries[0].pids)
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(queries[number % len(queries)], due)))
    await asyncio.gather(*tasks)
    took = time.perf_counter() - begin
    for _, connection in idle:
        connection.close()
    return took


@dataclass
class Connection:
    """To the service. It does little, as it shares the machine."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @staticmethod
    async def open(port: int) -> Connection:
        return Connection(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, query: Query) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        head = (
            "POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
            f"Content-Length: {len(query.body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + query.body)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith("content-length:"))
        return int(lines[0].split()[1]), await self.reader.readexactly(length)

    def close(self) -> None:
        self.writer.close()


class Server:
    """`reid-lab serve` in a process of its own."""

    def __init__(self, args: argparse.Namespace, *more: str) -> None:
        words = ["serve", "--model", str(args.model), "--people", str(args.people)]
        words += ["--gallery", *map(str, args.gallery), "--port", "0", "--threads", "1", *more]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "reid_lab.cli", *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("http://"):
                self.port = int(line.rsplit(":", 1)[1])
                return
        raise SystemExit(f"the service ended with status {self.process.wait()}")

    def status(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/status")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found

    def cpu_seconds(self) -> float:
        """CPU seconds of all threads since the start."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def measured_row(
    server: Server,
    number: int,
    arm: str,
    load: str,
    wait: float,
    work: Callable[[], tuple[Measured, float]],
) -> dict[str, object]:
    before = server.cpu_seconds()
    measured, seconds = work()
    spent, status = server.cpu_seconds() - before, server.status()
    count = measured.exits.total()
    found = {"round": number, **row(arm, load, wait, measured, seconds)}
    found["cpu_ms"] = round(1e3 * spent / count, 3)
    whole, planned = status["whole_ms"], status["planned_ms"]
    if status["target"]["ms"] is None:
        planned = planned or whole
    found["planned_ms"] = "" if planned is None else round(planned, 3)
    found["whole_ms"] = round(whole, 3)
    found |= {"commit": commit(), "machine": machine()}
    print(found, flush=True)
    return found


def row(
    arm: str, load: str, max_wait_ms: float, measured: Measured, seconds: float
) -> dict[str, object]:
    times = np.array(measured.seconds) * 1_000
    count = measured.exits.total()
    sent = count + measured.refused + measured.errors
    p50, p95, p99 = np.quantile(times, [0.5, 0.95, 0.99]).round(1).tolist()
    shares = {name: round(n / count, 4) for name, n in sorted(measured.exits.items())}
    return {
        "arm": arm,
        "load": load,
        "max_wait_ms": max_wait_ms,
        "queries": count,
        "refused": measured.refused,
        "errors": measured.errors,
        "sent_per_s": round(sent / seconds, 1),
        "queries_per_s": round(count / seconds, 1),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "sent_late_p99_ms": round(1_000 * float(np.quantile(measured.delays or [0.0], 0.99)), 1),
        "late": round(measured.late / count, 4),
        "rank1": round(measured.right / count, 4),
        "mean_mul_adds": round(measured.mul_adds / count),
        "shares": " ".join(f"{name}={share}" for name, share in shares.items()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--gallery", type=Path, nargs="+", required=True)
    parser.add_argument("--people", type=Path, default=Path("people.sqlite"))
    parser.add_argument("--images", type=Path, required=True, help="with query/, as Market-1501")
    parser.add_argument("--queries", type=int, default=2_000, help="of each closed loop")
    parser.add_argument("--images-per-request", type=int, default=1)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--budgets-ms", type=float, nargs="*", default=[50.0])
    parser.add_argument("--mul-adds", type=float, nargs="*", default=[], help="more arms")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each open loop; 0: none")
    parser.add_argument("--max-requests", type=int, default=256, help="at a time")
    parser.add_argument(
        "--max-wait-ms", type=float, nargs="+", default=[1000.0], help="of the open loops"
    )
    parser.add_argument("--rounds", type=int, default=1, help="of all arms, one after another")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    queries = read_queries(args.images, args.images_per_request)
    rows: list[dict[str, object]] = []
    capacity = 0.0
    arms = {"last exit": ()} | {f"{ms:g} ms": ("--budget-ms", f"{ms:g}") for ms in args.budgets_ms}
    arms |= {f"{m / 1e6:g} M": ("--mul-adds", f"{m:g}") for m in args.mul_adds}
    for number in range(args.rounds):
        for arm, words in arms.items():
            for wait in args.max_wait_ms:
                limits = "--max-requests", str(args.max_requests), "--max-wait-ms", f"{wait:g}"
                server = Server(args, *words, *limits)
                about = partial(measured_row, server, number, arm)
                try:
                    closed(server.port, queries, 8, 100 * args.images_per_request)  # warms up
                    for clients in args.clients if wait == args.max_wait_ms[0] else ():
                        load = partial(closed, server.port, queries, clients, args.queries)
                        rows.append(about(f"{clients} clients", wait, load))
                    capacity = capacity or float(rows[-1]["queries_per_s"])  # type: ignore[arg-type]
                    if args.seconds:
                        load = partial(opened, server.port, queries, 2 * capacity, args.seconds)
                        rows.append(about("twice the capacity", wait, load))
                finally:
                    server.stop()
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
