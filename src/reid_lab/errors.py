"""Errors that the user can fix; the command line shows their message without a traceback."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar


class UserError(ValueError):
    """An error the user can fix: one message with what was given, what is allowed, and the fix."""

    command_text = ""  # the message of a command, if it differs; see `with_options`

    def __reduce__(self) -> tuple[Any, ...]:
        # a sweep's job may run in another process, and constructors take other things than args
        return _revived, (type(self), self.args, dict(vars(self)))


class SpaceWarning(UserWarning):
    """The early exits of a network do not fit its shared space: their queries find less."""


class Note(str):
    """A note that names arguments of a function; commands show `command_text`, with options."""

    command_text: str

    def __new__(cls, text: str = "", command_text: str = "") -> Note:
        note = super().__new__(cls, text)
        note.command_text = command_text or text
        return note

    def __reduce__(self) -> tuple[Any, ...]:
        return Note, (str(self), self.command_text)


def joined(notes: Iterable[str]) -> Note:
    """The notes that are not empty, one per line."""
    kept = [note if isinstance(note, Note) else Note(note) for note in notes if note]
    return Note("\n".join(kept), "\n".join(note.command_text for note in kept))


E = TypeVar("E", bound=UserError)


def with_options(error: E, text: str) -> E:
    """An error whose message names a function's arguments; a command prints `text` instead."""
    error.command_text = text
    return error


def _revived(kind: type[UserError], args: tuple[Any, ...], state: dict[str, Any]) -> UserError:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then the one that it was raised for or after, and so on to the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def first_line(error: BaseException) -> str:
    """The first line of an error's text that is not empty; without one, the error's class."""
    lines = map(str.strip, str(error).splitlines())
    return next(filter(None, lines), repr(error))


def last_line(error: BaseException) -> str:
    """The last line of an error's text, which often names the cause; or the error's class."""
    lines = map(str.strip, reversed(str(error).splitlines()))
    return next(filter(None, lines), repr(error))


def first(texts: Sequence[str], most: int = 5) -> list[str]:
    """The texts that a message lists: at most so many, then "..." if there are more."""
    return [*texts[:most], *["..."] * (len(texts) > most)]
