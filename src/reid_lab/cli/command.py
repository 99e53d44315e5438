"""Parser and exit of every command: errors, signals, exit status; types of options."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from reid_lab.errors import UserError
from reid_lab.interrupt import Interrupted, raising_on_signals, status_of
from reid_lab.openset.rates import check_rate


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps line breaks; the names of commands, which are indented, have room beside their help."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = 14


class Parser(argparse.ArgumentParser):
    """Errors in the style of all commands, and an epilog with line breaks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", Formatter)
        super().__init__(*args, **kwargs)

        self.register("type", Path, path)
        self.set_defaults(parser=self)  # of nested parsers, the innermost one stays
        self.actions: Subparsers | None = None

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """Refuse an empty text, which many commands would take for the default.

        An option of `type=str` accepts it.
        """
        values = super()._get_values(action, arg_strings)
        if action.type is None and action.nargs != argparse.PARSER and "" in arg_strings:
            fix = "give one, or leave it out" if action.option_strings else "give one"
            raise argparse.ArgumentError(
                action, f"an empty value, as of an unset variable of the shell: {fix}"
            )
        return values

    def add_action(self, name: str, does: str, description: str | None = None) -> Parser:
        """The parser of an action; its help shows the action's examples of this epilog."""
        if self.actions is None:
            self.actions = self.add_subparsers(dest="action", required=True, metavar="ACTION")
        found = examples_of(f"{self.prog} {name}", self.epilog or "")
        epilog = "\n  ".join(["examples:", *found])
        return self.actions.add_parser(name, help=does, description=description, epilog=epilog)

    def error(self, message: str) -> NoReturn:
        if self.actions is not None and message.endswith(": ACTION"):
            message = f"{message}, one of {', '.join(self.actions.choices)}"
        lines = [f"error: {message}", f"{self.prog} --help shows the arguments"]
        if found := examples_of(self.prog, self.epilog or ""):
            named = re.findall(r"--[\w-]+", message)
            lines.insert(1, f"example: {max(found, key=lambda one: _options_in(one, named))}")
        print("\n".join(lines), file=sys.stderr)
        raise SystemExit(2)

    def unrecognized(self, words: Sequence[str]) -> NoReturn:
        """Exit because of words that are no arguments; options that are written alike are named."""
        shown = [a.option_strings for a in self._actions if a.help != argparse.SUPPRESS]
        options = [option for names in shown for option in names if option.startswith("--")]
        given = [word.partition("=")[0] for word in words if word.startswith("--")]
        close = [found for word in given for found in get_close_matches(word, options, 1, 0.7)]
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        self.error(f"unrecognized arguments: {' '.join(words)}{hint}")


@dataclass(frozen=True)
class Command:
    """A subcommand with its work and its exit.

    Attributes:
        work: parsed arguments -> exit status; imports what it needs.
        check: raises or calls `parser.error` if the arguments do not fit together.
        wrong: exit status of a UserError.
        interrupted: printed on Ctrl-C and SIGTERM.
        mixed: whether options may stand between positional arguments.
    """

    work: Callable[[argparse.Namespace], int]
    check: Callable[[argparse.ArgumentParser, argparse.Namespace], None] | None = None
    wrong: int = 1
    interrupted: str = "interrupted"
    mixed: bool = False


def examples_of(command: str, epilog: str) -> list[str]:
    """The lines of an epilog that call `command`, such as "reid-lab gallery add", as one each."""
    lines = re.sub(r"\\\n *", "", epilog).splitlines()
    found = [line.partition("  #")[0].strip() for line in lines]
    return [line for line in found if line.startswith(f"{command} ")]


def _options_in(example: str, options: Sequence[str]) -> int:
    return len(set(options).intersection(example.split()))


Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_overrides(parser: Parser, example: str) -> None:
    """Positional arguments key=value, as `reid-lab run` takes them."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"as for run: {example}")


def add_renamed(
    parser: argparse.ArgumentParser, new: str, old: str, dest: str, **options: Any
) -> None:
    """Add an option with its old name, which is accepted but not shown in the help."""
    parser.add_argument(new, dest=dest, metavar="N", **options)
    hidden = {**options, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument(old, dest=dest, **hidden)


def parse(parser: Parser, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a subcommand. Exits with status 2 if they are wrong."""
    own: Command | None = parser.get_default("command")  # a parser of actions has none
    mixed = own is not None and own.mixed
    known = parser.parse_known_intermixed_args if mixed else parser.parse_known_args
    args, unknown = known(words)
    if unknown:
        args.parser.unrecognized(unknown)
    if args.command.check:
        args.command.check(args.parser, args)
    return args


def run_command(parser: Parser, words: Sequence[str]) -> int:
    """Parse the words of a subcommand and do its work; the exit status."""
    args = parse(parser, words)
    command: Command = args.command
    with raising_on_signals():
        return attempt(lambda: command.work(args), command.wrong, command.interrupted)


def path(text: str) -> Path:
    """A path; an empty one, as of an unset variable of the shell, would be this folder."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path; . is this folder")
    return Path(text)


def count(text: str, most: int = 10**12) -> int:
    """A whole number from 1."""
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    if number > most:
        raise argparse.ArgumentTypeError(f"{number} is more than {most}")
    return number


def whole(low: int, high: int) -> Callable[[str], int]:
    """The type of a whole number from `low` to `high`."""

    def number(text: str) -> int:
        found = _whole(text)
        if not low <= found <= high:
            raise argparse.ArgumentTypeError(f"{found} is not {low} to {high}")
        return found

    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def batch_size(text: str) -> int:
    """A batch size."""
    return count(text, most=4096)


def positive(text: str) -> float:
    """A number above 0, such as seconds or minutes; 86,400 at most, never NaN."""
    return _above_0(text, "above 0 and at most 86400", 86_400)


def mul_adds(text: str) -> float:
    """A number of Mul-Adds above 0, such as 3e8."""
    return _above_0(text, "a number of Mul-Adds, such as 3e8")


def distance(text: str) -> float:
    """A distance above 0; never NaN."""
    return _above_0(text, "a finite number above 0")


def _above_0(text: str, what: str, most: float = sys.float_info.max) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return number


def accept_rate(text: str) -> float:
    """A false-accept rate, above 0 and at most 1; never NaN."""
    try:
        rate = float(text)
        check_rate(rate)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    return rate


def attempt(work: Callable[[], int], wrong: int = 1, interrupted: str = "interrupted") -> int:
    """The exit status of `work`; an error of the user is one message, without a traceback.

    Args:
        work: returns its status.
        wrong: status of a UserError, or of an error in the config.
        interrupted: printed on Ctrl-C and SIGTERM.

    Returns:
        1 if a file cannot be read or written, 130 after Ctrl-C, 143 after SIGTERM, 141 if the
        output is closed, as by `| head`.
    """
    for stream in (sys.stdout, sys.stderr):  # names that the terminal cannot show are escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = work()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        return cut_off()
    except (Exception, KeyboardInterrupt, Interrupted) as error:
        if (stopped := status_of(error)) is not None:
            print(interrupted, file=sys.stderr)
            return stopped
        assert isinstance(error, Exception)  # the others have a status
        if isinstance(error, UserError) or _of_config(error):
            return report_error(error, wrong)
        if isinstance(error, OSError):
            return report_error(error, 1)
        raise


def _of_config(error: Exception) -> bool:
    try:
        from hydra.errors import HydraException  # slow to import
        from omegaconf.errors import OmegaConfBaseException
    except ImportError:  # the runtime needs neither
        return False
    return isinstance(error, (HydraException, OmegaConfBaseException))


def report_error(error: Exception, status: int) -> int:
    text = isinstance(error, UserError) and error.command_text
    print(f"error: {text or error}", file=sys.stderr)
    return status


def cut_off() -> int:
    """The status of a command whose output is closed, 141; Python's flush at exit has no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def piped(work: Callable[[], int | None]) -> int:
    """The status of a command whose output may be cut off, as by `| head`, without a traceback."""
    status: int | str | None
    try:
        try:
            status = work()
        except SystemExit as stopped:  # argparse's, after --help
            status = stopped.code
        sys.stdout.flush()
    except BrokenPipeError:
        return cut_off()
    if isinstance(status, str):
        raise SystemExit(status)
    return status or 0
