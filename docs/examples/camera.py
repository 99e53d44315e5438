"""Name the people in a video: detect, embed, and search a gallery, frame by frame.

    pip install 'reid-lab[camera,export]'
    reid-lab export --checkpoint last.ckpt --out exported
    reid-lab gallery build --checkpoint last.ckpt --images people/ --exit fusion --out gallery
    reid-lab gallery calibrate gallery
    python docs/examples/camera.py --model exported --gallery gallery --video door.mp4

`--video 0` is a webcam. A person who is farther from all gallery images than the gallery's
threshold is "unknown"; without thresholds the nearest person is named. It needs no torch.

The detector that is built in finds what moves in front of a camera that does not: replace it by
`--detector MODULE:FUNCTION`, a function from a frame (H, W, 3) uint8 RGB to boxes (N, 4) xyxy in
pixels. With Ultralytics, a file detect.py on the path:

    from ultralytics import YOLO
    network = YOLO("yolo11n.pt")
    def people(frame):  # its frames are BGR
        return network(frame[..., ::-1], classes=[0], verbose=False)[0].boxes.xyxy.cpu().numpy()
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from reid_lab.errors import UserError
from reid_lab.runtime import Gallery, Model, embed

Detector = Callable[[np.ndarray], np.ndarray]
COLOURS = {"known": (80, 200, 80), "unknown": (60, 60, 220), "ambiguous": (40, 180, 220)}  # BGR


class Moving:
    """Boxes of what moves in front of a fixed camera, as high as `least` of the frame or more."""

    def __init__(self, least: float = 0.2) -> None:
        self.background = cv2.createBackgroundSubtractorMOG2(detectShadows=True)
        self.least = least

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """A frame (H, W, 3) -> boxes (N, 4) xyxy."""
        mask = (self.background.apply(frame) == 255).astype(np.uint8)  # 127 is a shadow
        side = max(3, len(frame) // 40)
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((2 * side, side), np.uint8))
        _, _, found, _ = cv2.connectedComponentsWithStats(mask)
        left, top, width, height = found[1:, :4].T  # the first one is the background
        boxes = np.stack([left, top, left + width, top + height], 1)
        return boxes[(height >= self.least * len(frame)) & (height > width)]


def frames(video: str) -> Iterator[tuple[np.ndarray, float]]:
    """The frames (H, W, 3) uint8 BGR of a file, or of the webcam of that number, and their rate.

    Raises:
        UserError: it cannot be opened, or has no frame.
    """
    capture = cv2.VideoCapture(int(video) if video.isdigit() else video)
    rate, count = capture.get(cv2.CAP_PROP_FPS) or 25.0, 0
    while True:
        more, frame = capture.read()
        if not more:
            break
        count += 1
        yield frame, rate
    capture.release()
    if not count:
        raise UserError(f"--video {video} has no frame: give a video file or a webcam's number")


def name(gallery: Gallery, rows: np.ndarray, rate: float) -> list[tuple[str, str]]:
    """Embeddings (N, D) -> the verdict and the names of each."""
    if not len(rows):
        return []
    if not gallery.card.accept_thresholds:
        _, nearest = gallery.search(rows, 1)
        return [("known", gallery.name(gallery.pids[row])) for row in nearest[:, 0]]
    found = gallery.verdicts(rows, rate)
    return [(v.verdict, " or ".join(gallery.name(p.pid) for p in v.people)) for v in found]


def draw(frame: np.ndarray, boxes: np.ndarray, named: Sequence[tuple[str, str]]) -> np.ndarray:
    """The frame with a box and a name for each person."""
    for (left, top, right, bottom), (verdict, who) in zip(boxes.astype(int), named, strict=True):
        colour = COLOURS[verdict]
        cv2.rectangle(frame, (left, top), (right, bottom), colour, 2)
        place = (left, max(12, top - 5))
        cv2.putText(frame, who or verdict, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1)
    return frame


def run(args: argparse.Namespace) -> Counter[str]:
    """Name everyone in the video; the number of boxes by name, and of those that are unknown."""
    model = Model(args.model, args.threads)
    gallery = Gallery.open(args.gallery, model.manifest)
    detect, writer, seen = detector(args.detector), None, Counter[str]()
    for number, (frame, rate) in enumerate(frames(args.video)):
        pixels = np.ascontiguousarray(frame[..., ::-1])
        boxes = np.asarray(detect(pixels), dtype=float).reshape(-1, 4)
        rows = embed(model, pixels, boxes, exits=gallery.exit)[gallery.exit]
        named = name(gallery, rows, args.rate)
        for box, (verdict, who) in zip(boxes.astype(int).tolist(), named, strict=True):
            seen[who or verdict] += 1
            print(number, *box, verdict, who or "-", sep="\t")
        drawn = draw(frame, boxes, named)
        if args.out:
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(str(args.out), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
            writer.write(drawn)
        if args.show:
            cv2.imshow("people", drawn)
            if cv2.waitKey(1) == ord("q"):
                break
    if writer is not None:
        writer.release()
    return seen


def detector(given: str | None) -> Detector:
    """MODULE:FUNCTION, or what moves.

    Raises:
        UserError: no such function.
    """
    if given is None:
        return Moving()
    module, _, function = given.partition(":")
    try:
        found: Detector = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--detector {given}: {error}; give MODULE:FUNCTION") from error
    return found


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="what reid-lab export wrote")
    parser.add_argument("--gallery", type=Path, required=True, help="the people")
    parser.add_argument("--video", default="0", help="a file, or a webcam's number")
    parser.add_argument("--detector", help="MODULE:FUNCTION; default: what moves")
    parser.add_argument("--rate", type=float, default=0.01, help="false-accept rate, %(default)s")
    parser.add_argument("--out", type=Path, help="video to write")
    parser.add_argument("--show", action="store_true", help="in a window; needs opencv-python")
    parser.add_argument("--threads", type=int, default=0, help="0 takes all cores")
    try:
        seen = run(parser.parse_args(words))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for who, boxes in seen.most_common():
        print(f"{who}: {boxes} boxes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
