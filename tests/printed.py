"""What a page prints for its reader to type: commands of the shell, and Python."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

OURS = re.compile(r"(?:\.venv/bin/)?(?:reid-lab|python -m reid_lab) ")
TYPED = re.compile(r"(?:\$ )?(?:\.venv/bin/)?(?:reid-lab|python|pip|make|docker|trtexec) ")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language (empty if none is given), its lines."""

    language: str
    text: str

    @property
    def is_script(self) -> bool:
        """Whether it is typed into a shell; others are output, layouts, files or Python."""
        lines = self.text.splitlines()
        return self.language in ("", "sh", "bash") and any(map(TYPED.match, lines))


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of Markdown, in order."""
    for found in re.finditer(r"^```(\S*)\n(.*?)^```$", page, re.M | re.DOTALL):
        yield Block(found[1], found[2])


def typed(text: str) -> list[str]:
    """The lines of a script; where some begin with a prompt, the others are output."""
    lines = [line.strip() for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line.strip()]
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    return prompted or lines


def words_of(line: str) -> list[str]:
    """The words of a command of ours after `reid-lab`; those of a training begin with `run`."""
    first, *words = shlex.split(line, comments=True)
    return words if first.endswith("reid-lab") else ["run", *words[2:]]
