"""Several data sets trained on together, one of them ranked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_lab.dataset.records import DISTRACTOR, Benchmark, DatasetError, Split


def read_joint(
    root: Path | str, parts: Mapping[str, Callable[[], Benchmark]], test: str
) -> Benchmark:
    """Train on the training images of all `parts`; query and gallery are those of `test`.

    Parts are different people: their identities and cameras are renumbered one after the other,
    in the order of the parts. The protocol, companions and ranked images are the part's own.

    Args:
        root: the parts' common folder, from which a config derives theirs.
        parts: name -> what reads it, its root given already.
        test: the part that is ranked.

    Raises:
        DatasetError: `test` names no part, a part cannot be read, two parts are the same
            folder, or some have boxes and others whole images.
    """
    if test not in parts:
        raise DatasetError(
            f"joint: test={test!r} is no part: set dataset.reader.test to one of "
            f"{', '.join(parts) or '(no parts are given)'}"
        )
    read = _read(parts)
    _check_apart(read)
    _check_boxes(read)
    top = _common_root(read.values())
    renumbered = _numbered(read, top)
    ranked = renumbered[test]
    return replace(
        ranked,
        name=f"{'+'.join(parts)}, test {test}",
        train=Split.concatenate(*(part.train for part in renumbered.values())),
        notes=tuple(note for part in read.values() for note in part.notes),
        people={pid: name for part in renumbered.values() for pid, name in part.people.items()},
        cameras={
            camid: name for part in renumbered.values() for camid, name in part.cameras.items()
        },
    )


def _read(parts: Mapping[str, Callable[[], Benchmark]]) -> dict[str, Benchmark]:
    """Every part, or one error about all that cannot be read."""
    tried = {name: _try(name, reader) for name, reader in parts.items()}
    errors = [str(result) for result in tried.values() if isinstance(result, DatasetError)]
    if errors:
        raise DatasetError("\n".join(errors))
    return {name: result for name, result in tried.items() if isinstance(result, Benchmark)}


def _try(name: str, reader: Callable[[], Benchmark]) -> Benchmark | DatasetError:
    try:
        return reader()
    except DatasetError as error:
        return DatasetError(f"joint: part {name} (dataset.reader.parts.{name}): {error}")


def _check_apart(parts: Mapping[str, Benchmark]) -> None:
    seen: dict[Path, str] = {}
    for name, part in parts.items():
        root = part.train.root.resolve()
        if root in seen:
            raise DatasetError(
                f"joint: parts {seen[root]} and {name} are both {root}: one person would have "
                f"two identities; give each part its own root, or remove one ('~dataset.reader."
                f"parts.{name}')"
            )
        seen[root] = name


def _check_boxes(parts: Mapping[str, Benchmark]) -> None:
    cut = [name for name, part in parts.items() if part.train.boxes is not None]
    if 0 < len(cut) < len(parts):
        whole = [name for name in parts if name not in cut]
        raise DatasetError(
            f"joint: {', '.join(cut)} cut people out by boxes, {', '.join(whole)} have whole "
            "images, and these cannot be mixed: save the people as images of their own first"
        )


def _splits(part: Benchmark) -> list[Split]:
    every = (part.train, part.query, part.gallery, part.companions)
    return [split for split in every if split is not None]


def _common_root(parts: Iterable[Benchmark]) -> Path:
    roots = {split.root.absolute() for part in parts for split in _splits(part)}
    return Path(os.path.commonpath(roots))


def _numbered(parts: Mapping[str, Benchmark], top: Path) -> dict[str, Benchmark]:
    """The parts below `top`, with pids and camids that no two share."""
    pid = camid = 0
    renumbered = {}
    for name, part in parts.items():
        splits = _splits(part)
        pids = np.concatenate([split.pids for split in splits])
        camids = np.concatenate([split.camids for split in splits])
        camid -= min(int(camids.min(initial=0)), 0)  # of the next camera, if there are some below 0
        moved = [_moved(split, top, pid, camid) for split in splits]
        companions = moved[3] if part.companions is not None else None
        renumbered[name] = replace(
            part,
            train=moved[0],
            query=moved[1],
            gallery=moved[2],
            companions=companions,
            people=_names(name, pids[pids > DISTRACTOR], part.people, pid),
            cameras=_names(name, camids, part.cameras, camid),
        )
        pid += int(pids.max(initial=0))
        camid += int(camids.max(initial=0)) + 1
    return renumbered


def _names(part: str, numbers: np.ndarray, names: Mapping[int, str], by: int) -> dict[int, str]:
    """Names of numbers that are moved `by`; those that have none are '7 of <part>'."""
    if not by:
        return dict(names)
    return {n + by: names.get(n, f"{n} of {part}") for n in np.unique(numbers).tolist()}


def _moved(split: Split, top: Path, pid: int, camid: int) -> Split:
    """`split` with `top` as its root; distractors and junk keep their pids."""
    below = os.path.relpath(split.root.absolute(), top)
    prefix = b"" if below == "." else os.fsencode(f"{below}/")
    return replace(
        split,
        root=top,
        names=np.char.add(prefix, split.names),
        pids=np.where(split.pids > DISTRACTOR, split.pids + pid, split.pids),
        camids=split.camids + camid,
    )
