"""Joint training on several data sets, evaluated on one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from reid_lab.dataset.records import Benchmark, DatasetError, Split
from reid_lab.protocol import DISTRACTOR

TrainedOn = Literal["train", "whole", "nothing"]


def read_joint(
    root: Path | str,
    parts: Mapping[str, Callable[[], Benchmark]],
    test: str,
    train_on: Mapping[str, TrainedOn] | None = None,
) -> Benchmark:
    """Read several data sets: train on images of all `parts`, evaluate on `test`.

    People and cameras of different parts are distinct; they are renumbered consecutively in the
    order of the parts. Protocol, query, gallery and multi-query images are those of `test`.

    Args:
        root: common folder of the parts, from which the config derives their folders.
        parts: name -> function without arguments that reads the part.
        test: name of the part to evaluate on. A part that is neither trained on nor evaluated is
            not read.
        train_on: name -> which of a part's images are trained on: those for `train`ing (where a
            part is not named), the `whole` part, that is also its queries and its gallery without
            distractors and junk (JLML, section 3, before VIPeR and GRID), or `nothing`.

    Raises:
        DatasetError: `test` is unknown, a part cannot be read, two parts are the same folder,
            some have boxes and others do not, or `train_on` names an unknown part, leaves nothing
            to train on, or takes the whole of `test`.
    """
    shares = _shares(parts, test, train_on or {})
    read = _read_parts(
        {n: read for n, read in parts.items() if n == test or shares[n] != "nothing"}
    )
    _check_distinct(read)
    _check_boxes(read)
    top = _common_root(read.values())
    renumbered = _renumber(read, top)
    ranked = renumbered[test]
    trained = [_trained(part, shares[name]) for name, part in renumbered.items()]
    whole = [name for name in read if shares[name] == "whole"]
    notes = [f"trained on the whole of {', '.join(whole)}, test images included"] if whole else []
    return replace(
        ranked,
        name=f"{'+'.join(n for n in read if shares[n] != 'nothing')}, test {test}",
        train=Split.concatenate(*trained),
        notes=(*(note for part in read.values() for note in part.notes), *notes),
        people={pid: name for part in renumbered.values() for pid, name in part.people.items()},
        cameras={
            camid: name for part in renumbered.values() for camid, name in part.cameras.items()
        },
    )


def _shares(
    parts: Mapping[str, object], test: str, train_on: Mapping[str, TrainedOn]
) -> dict[str, TrainedOn]:
    """Check `train_on`, and return the images of each part to train on."""
    available = f"available: {', '.join(parts) or 'none'}"
    if test not in parts:
        raise DatasetError(
            f"joint: unknown part test={test!r}: set dataset.reader.test; {available}"
        )
    unknown = [name for name in train_on if name not in parts]
    if unknown:
        raise DatasetError(
            f"joint: unknown part in dataset.reader.train_on: {', '.join(unknown)}; {available}"
        )
    shares: dict[str, TrainedOn] = {name: train_on.get(name, "train") for name in parts}
    if shares[test] == "whole":
        raise DatasetError(
            f"joint: dataset.reader.train_on.{test}=whole trains on the images that are ranked: "
            "use train or nothing, or rank another part (dataset.reader.test)"
        )
    if all(share == "nothing" for share in shares.values()):
        raise DatasetError(
            "joint: dataset.reader.train_on leaves nothing to train on: set train or whole for at "
            "least one part"
        )
    return shares


def _trained(part: Benchmark, share: TrainedOn) -> Split:
    if share == "train":
        return part.train
    if share == "nothing":
        return part.train.take(np.zeros(len(part.train), bool))
    whole = Split.concatenate(part.train, part.query, part.gallery)
    sides = () if whole.boxes is None else whole.boxes.T  # of several people in a file
    images = np.rec.fromarrays([whole.names, *sides])
    _, first = np.unique(images, return_index=True)  # queries may be in the gallery, too
    return whole.take(first[whole.pids[first] > DISTRACTOR])


def _read_parts(parts: Mapping[str, Callable[[], Benchmark]]) -> dict[str, Benchmark]:
    """Read all parts; raise one error for all that cannot be read."""
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


def _check_distinct(parts: Mapping[str, Benchmark]) -> None:
    seen: dict[Path, str] = {}
    for name, part in parts.items():
        root = part.train.root.resolve()
        if root in seen:
            raise DatasetError(
                f"joint: parts {seen[root]} and {name} are both {root}: each person would have "
                f"two identities; set a different root for each, or remove one ('~dataset.reader."
                f"parts.{name}')"
            )
        seen[root] = name


def _check_boxes(parts: Mapping[str, Benchmark]) -> None:
    with_boxes = [name for name, part in parts.items() if part.train.boxes is not None]
    if 0 < len(with_boxes) < len(parts):
        whole = [name for name in parts if name not in with_boxes]
        raise DatasetError(
            f"joint: {', '.join(with_boxes)} have boxes, {', '.join(whole)} have whole images, "
            "and these cannot be mixed: crop each person to a separate image first"
        )


def _splits(part: Benchmark) -> list[Split]:
    splits = (part.train, part.query, part.gallery, part.multi_query)
    return [split for split in splits if split is not None]


def _common_root(parts: Iterable[Benchmark]) -> Path:
    roots = {split.root.absolute() for part in parts for split in _splits(part)}
    return Path(os.path.commonpath(roots))


def _renumber(parts: Mapping[str, Benchmark], top: Path) -> dict[str, Benchmark]:
    """Make paths relative to `top`, and pids and camids distinct across the parts."""
    pid = camid = 0
    renumbered = {}
    for name, part in parts.items():
        splits = _splits(part)
        pids = np.concatenate([split.pids for split in splits])
        camids = np.concatenate([split.camids for split in splits])
        camid -= min(int(camids.min(initial=0)), 0)  # room for negative camids
        shifted = [_shifted(split, top, pid, camid) for split in splits]
        multi_query = shifted[3] if part.multi_query is not None else None
        renumbered[name] = replace(
            part,
            train=shifted[0],
            query=shifted[1],
            gallery=shifted[2],
            multi_query=multi_query,
            people=_names(name, pids[pids > DISTRACTOR], part.people, pid),
            cameras=_names(name, camids, part.cameras, camid),
        )
        pid += int(pids.max(initial=0))
        camid += int(camids.max(initial=0)) + 1
    return renumbered


def _names(part: str, numbers: np.ndarray, names: Mapping[int, str], offset: int) -> dict[int, str]:
    """Shift the keys of names; numbers without a name get one such as '7 of <part>'."""
    if not offset:
        return dict(names)
    return {n + offset: names.get(n, f"{n} of {part}") for n in np.unique(numbers).tolist()}


def _shifted(split: Split, top: Path, pid: int, camid: int) -> Split:
    """Shift pids and camids, and make `top` the root; distractors and junk keep their pids."""
    below = os.path.relpath(split.root.absolute(), top)
    prefix = b"" if below == "." else os.fsencode(f"{below}/")
    return replace(
        split,
        root=top,
        names=np.char.add(prefix, split.names),
        pids=np.where(split.pids > DISTRACTOR, split.pids + pid, split.pids),
        camids=split.camids + camid,
    )
