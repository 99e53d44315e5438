"""The service as a process: killed between enrolments, stopped, and used in a browser."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.launcher import Launched, Launcher, Running, Starter
from tests.serve.network import png
from tests.serve.test_frontier import a_run

pytest.importorskip("fastapi")
pytestmark = pytest.mark.system
NEW = "new colours"  # tests.serve.colours.NEW
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has one
KILLS = 50 if os.environ.get("REID_LAB_TORTURE") == "1" else 3
CHROMIUM = Path("/usr/bin/chromium")


Service = Callable[..., AbstractContextManager[tuple[Running | Launched, str]]]


@pytest.fixture
def service(starter: Launcher | Starter, tmp_path: Path) -> Service:
    """Starts a process, and gives it and its address."""

    @contextmanager
    def start(*more: str) -> Iterator[tuple[Running | Launched, str]]:
        port = tmp_path / "port"
        port.unlink(missing_ok=True)
        words = [str(tmp_path / "p.sqlite"), str(port), *more]
        process = starter.start("tests.serve.colours", words, tmp_path, tmp_path / "printed.txt")
        try:
            for _ in range(600):
                if port.exists() and port.read_text() or process.wait(0) is not None:
                    break
                time.sleep(0.05)
            assert port.exists(), process.text()
            yield process, f"http://127.0.0.1:{port.read_text()}"
        finally:
            process.kill(KILL)
            assert process.wait(60) is not None

    return start


def enroll(address: str, pid: str) -> int:
    files = {"images": ("x.png", png(len(pid), 5, 9))}
    return httpx.post(f"{address}/enroll", files=files, data={"pid": pid}, timeout=30).status_code


def pids(address: str) -> set[str]:
    found = httpx.get(f"{address}/people?limit=1000", timeout=30).json()["people"]
    return {person["pid"] for person in found}


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_what_was_acknowledged_survives_a_kill(
    service: Service, record_property: Callable[[str, object], None]
) -> None:
    acknowledged: set[str] = set()
    lost: list[set[str]] = []  # after each kill
    for kill in range(KILLS):
        with service() as (process, address):
            lost += [acknowledged - pids(address)] * (kill > 0)

            def client(number: int, kill: int = kill, address: str = address) -> None:
                for i in range(10_000):
                    pid = f"{kill} {number} {i}"
                    with suppress(httpx.HTTPError):
                        if enroll(address, pid) == 201:
                            acknowledged.add(pid)
                            continue
                    return

            threads = [threading.Thread(target=client, args=(n,)) for n in range(3)]
            before = len(acknowledged)
            for thread in threads:
                thread.start()
            while len(acknowledged) < before + 3 + kill % 5:
                time.sleep(0.002)
            process.kill(KILL)
            for thread in threads:
                thread.join()
    with service() as (_, address):
        found = pids(address)
    lost.append(acknowledged - found)
    print(f"{KILLS} kills: {len(acknowledged)} enrolments acknowledged, {len(lost[-1])} lost")
    record_property("torture cases", ("serve", KILLS, sum(map(bool, lost))))
    assert not any(lost)
    assert len(found - acknowledged) <= 3 * KILLS  # written, and killed before the answer


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_killed_upgrade_goes_on_with_either_model(service: Service) -> None:
    def model(address: str) -> str:
        return str(httpx.get(f"{address}/health", timeout=30).json()["model"])

    def embedded(address: str) -> int:
        return int(httpx.get(f"{address}/status", timeout=30).json()["upgrade"]["embedded"])

    people = {f"p{i:03}" for i in range(100)}
    with service() as (process, address):
        for pid in people:
            assert enroll(address, pid) == 201
        assert httpx.post(f"{address}/model", timeout=30).status_code == 202
        while embedded(address) == 0:
            time.sleep(0.002)
        process.kill(KILL)
    with service() as (process, address):  # the old one, as if the folder was switched back
        assert model(address) == "colours" and pids(address) == people
        assert httpx.post(f"{address}/model", timeout=30).status_code == 202
        while embedded(address) < 64:
            time.sleep(0.002)
        process.kill(KILL)
    with service(NEW) as (_, address):
        assert model(address) == NEW and pids(address) == people


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")
def test_a_stop_answers_what_runs(service: Service) -> None:
    statuses: list[int] = []
    with service() as (process, address):
        enroll(address, "first")

        def client() -> None:
            with suppress(httpx.HTTPError):
                statuses.extend(enroll(address, f"p{i}") for i in range(10_000))

        thread = threading.Thread(target=client)
        thread.start()
        while len(statuses) < 3:
            time.sleep(0.002)
        process.kill(signal.SIGTERM)
        assert process.wait(20) is not None
        thread.join()
    assert set(statuses) <= {201}
    with service() as (_, address):
        assert len(pids(address)) >= 1 + len(statuses)


def test_raw_requests(service: Service) -> None:
    """What clients send that no library would."""
    with service() as (_, address):
        host, port = address.removeprefix("http://").split(":")
        for path in ("/../../etc/passwd", "/images/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "//etc/passwd"):
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.putrequest("GET", path, skip_host=False)
            connection.endheaders()
            response = connection.getresponse()
            assert response.status in (404, 422)
            assert b"root:" not in response.read()
            connection.close()
        head = httpx.head(f"{address}/health")
        assert head.status_code == 200 and head.headers["content-length"] != "0" == str(
            len(head.text)
        )
        assert enroll(address, "%2e%2e") == 201
        assert httpx.delete(f"{address}/people/%252e%252e").json()["removed"] == 1
        assert httpx.get(f"{address}/health").json()["status"] == "ok"


@contextmanager
def browser_page() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 400, "height": 800})
        browser.close()


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_the_page_in_a_browser(service: Service, tmp_path: Path) -> None:
    """Enrol, search, confirm, remove, by mouse and keyboard; no request to another host."""
    images = [tmp_path / "red.png", tmp_path / "green.png"]
    images[0].write_bytes(png(200, 10, 10))
    images[1].write_bytes(png(10, 200, 10))
    with service() as (_, address), browser_page() as page:
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on(
            "request",
            lambda r: r.url.startswith((address, "blob:", "data:")) or problems.append(r.url),
        )
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(address)
        name = "<b>anna</b>"
        for image, pid in zip(images, (name, "bert"), strict=True):
            page.set_input_files("#files", str(image))
            page.locator(".result").wait_for()
            page.locator("body").press("n")
            page.keyboard.type(pid)
            page.keyboard.press("Enter")
            page.locator("#message", has_text=f"{pid}: 1 image added").wait_for()
        page.set_input_files("#files", str(images[1]))
        page.locator(".result").wait_for()
        for pid, told in (
            ("bert", "bert: 1 image added, it was there already."),
            ("carl", "carl: 1 image added. The same image is of bert, too: one of them is wrong."),
        ):
            page.locator("#pid").fill(pid)
            page.keyboard.press("Enter")
            page.locator("#message", has_text=told).wait_for()
        page.get_by_role("button", name="remove carl").click()
        page.locator("#message", has_text="carl was removed").wait_for()
        page.set_input_files("#files", str(images[0]))
        page.locator(".verdict.known").wait_for()
        first = page.locator(".match").first
        assert first.locator("b").inner_text() == name
        first.get_by_role("button").first.click()
        page.locator(".match.confirmed").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        page.locator("#rate").fill("")
        page.locator("#rate").blur()
        page.locator("#message", has_text="The false-accept rate is a number from").wait_for()
        page.locator("#rate").fill("0.01")
        page.locator("#rate").blur()
        page.locator(".match").first.wait_for()
        for name_of_file, message in [
            ("damaged.png", "damaged.png cannot be read as an image: it is a GIF"),
            ("notes.txt", "Not an image: notes.txt. Choose JPEG"),
        ]:
            (tmp_path / name_of_file).write_bytes(b"GIF89a")
            page.set_input_files("#files", str(images[0]))
            page.locator(".match").first.wait_for()
            page.set_input_files("#files", str(tmp_path / name_of_file))
            page.locator("#message.error", has_text=message).wait_for()
            assert page.locator(".match").count() == 0
        assert page.locator("#add").is_disabled()
        problems[:] = [text for text in problems if "422" not in text]  # the damaged image's
        page.get_by_role("button", name="remove bert").click()
        page.locator("#message", has_text="bert was removed").wait_for()
        assert problems == []
        labels = httpx.get(f"{address}/labels").json()["labels"]
        assert [(label["pid"], label["correct"]) for label in labels] == [(name, True)]
        assert pids(address) == {name}
        assert json.loads(httpx.get(f"{address}/status").text)["images"] == 1


# Contrast by WCAG of each text that is seen with the first background behind it that is opaque.
CONTRASTS = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = rgb(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    throw new Error("nothing is behind it");
  };
  const own = node => [...node.childNodes].some(c => c.nodeType === 3 && c.textContent.trim());
  return [...document.querySelectorAll("body *")]
    .filter(e => own(e) && !["SCRIPT", "STYLE"].includes(e.tagName))
    .filter(e => !e.disabled && e.getClientRects().length)
    .map(e => {
      const style = getComputedStyle(e);
      const text = light(rgb(e instanceof SVGElement ? style.fill : style.color));
      const paper = light(behind(e));
      const [dark, bright] = [text, paper].sort((a, b) => a - b);
      return [(bright + .05) / (dark + .05), e.textContent.trim().slice(0, 40)];
    });
}"""


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_the_page_in_the_dark_with_a_track_and_a_run(service: Service, tmp_path: Path) -> None:
    images = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(images):
        path.write_bytes(png(len("anna"), 5, 9 + number))  # near anna's
    with (
        service("colours", str(a_run(tmp_path / "run"))) as (_, address),
        browser_page() as page,
    ):
        for pid in ("anna", "robert"):
            assert enroll(address, pid) == 201
        page.emulate_media(color_scheme="dark")
        page.goto(address)
        page.set_input_files("#files", [str(path) for path in images])
        page.locator(".result").nth(2).wait_for()  # a result for each image
        page.locator("#track").check()
        page.locator("figcaption", has_text="3 images").wait_for()
        assert page.locator(".result").count() == 1
        assert page.locator(".match b").first.inner_text() == "anna"
        plot = page.locator("#frontier")
        plot.locator("circle.exit").nth(1).wait_for()
        assert {*plot.locator(".exit-name").all_text_contents()} == {"early", "late"}
        assert plot.locator("polyline.stream").count() == 1
        assert "Accuracy of the network's test" in page.locator("#frontiertext").inner_text()
        verdicts = {"known", "unknown", "ambiguous"}
        for verdict in verdicts:  # all, to see their colours
            shown = "v => document.querySelector('.side p').append(make('b', v, `verdict ${v}`))"
            page.evaluate(shown, verdict)
        page.evaluate("document.querySelector('.side').append(make('span', 'without', 'none'))")
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (max(map(int, re.findall(r"\d+", paper))) < 64) == (scheme == "dark")
            found = page.evaluate(CONTRASTS)
            assert {"anna", "late", "without", *verdicts} <= {text for _, text in found}
            assert [one for one in found if one[0] < 4.5] == []


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium")
def test_the_page_while_a_new_model_is_loaded(service: Service) -> None:
    def move() -> None:
        assert httpx.post(f"{address}/model", timeout=30).status_code == 202

    with service() as (_, address), browser_page() as page:
        for person in range(40):
            assert enroll(address, f"p{person:02}") == 201
        page.goto(address)
        budget = page.locator("#budget")
        budget.filter(has_text="No budget: all queries use the last exit.").wait_for()
        move()
        page.evaluate("status()")  # the page asks every 5 s
        budget.filter(has_text="A new model").wait_for()
        budget.filter(has_not_text="new model").wait_for()
        move()  # to the current model, which fails
        budget.filter(has_text="The upgrade to a new model failed: ").wait_for()
