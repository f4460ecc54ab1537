"""The command line: ``mien VERB …``. A verb's module is imported only when that verb is called.

A verb lives in ``mien/cli/<verb>.py`` (dashes become underscores) and exposes ``app``, a
``typer.Typer``. Exit codes: 0 done, 1 some inputs failed and the rest was done, 2 nothing could be
done (the reason is one sentence on standard error), 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from mien.errors import MienError


class Verb(NamedTuple):
    """Where a verb lives and what it does."""

    module: str
    help: str


#: Every verb, in the order of the help page.
VERBS: dict[str, Verb] = {
    "predict": Verb("mien.cli.predict", "Find faces in pictures and name their expressions."),
    "video": Verb("mien.cli.video", "Follow faces through films and name their expressions."),
    "demo": Verb("mien.cli.demo", "Analyse a bundled photo, offline, and show the result."),
    "live": Verb("mien.cli.live", "Watch this machine's camera, on a page or as JSON lines."),
    "serve": Verb("mien.cli.serve", "Serve the web page, REST and WebSocket."),
    "models": Verb("mien.cli.models", "List the architectures and the shipped models."),
    "data": Verb("mien.cli.data", "Audit, convert, split and build datasets."),
    "train": Verb("mien.cli.train", "Train a classifier from a named recipe."),
    "sweep": Verb("mien.cli.sweep", "Train a grid of ImageNet backbones."),
    "ensemble": Verb("mien.cli.ensemble", "Average networks; train those that are missing."),
    "distill": Verb("mien.cli.distill", "Train a small network on larger ones' answers."),
    "ablate": Verb("mien.cli.ablate", "Compare recipes seed by seed, one change a row."),
    "reproduce": Verb("mien.cli.reproduce", "Reproduce a paper and report beside it."),
    "evaluate": Verb("mien.cli.evaluate", "Score a model on a split and write the report."),
    "robustness": Verb("mien.cli.robustness", "Score a model on spoiled faces and missed crops."),
    "explain": Verb("mien.cli.explain", "Show which parts of a face an answer rests on."),
    "blend": Verb("mien.cli.blend", "Compare a model's mixed expressions with people's votes."),
    "export": Verb("mien.cli.export", "Turn a checkpoint into a self-describing ONNX file."),
    "bench": Verb("mien.cli.bench", "Measure speed, start-up time and memory."),
}

_HELP_FLAGS = ("-h", "--help", "help")


def help_text() -> str:
    """The page that ``mien --help`` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "Usage: mien VERB [OPTIONS] [ARGUMENTS]…",
            "",
            "Facial-expression recognition, offline.",
            "",
            "Verbs:",
            *lines,
            "",
            "  mien VERB --help   options of a verb",
            "  mien --version     version",
        ]
    )


def _fail(message: str, code: int = 2) -> int:
    text = " ".join(message.split()) or "unknown error"
    print(f"error: {text}", file=sys.stderr)
    return code


def _unknown(word: str) -> int:
    if word.startswith("-"):
        return _fail(f"Unknown option {word!r}; see `mien --help`.")
    near = difflib.get_close_matches(word.lower(), VERBS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known verbs: {', '.join(VERBS)}."
    return _fail(f"Unknown verb {word!r}; {hint}")


def _run(verb: str, arguments: list[str]) -> int:
    """Import the verb's module and run it; typer's own errors come back as exceptions."""
    import typer.main

    app = importlib.import_module(VERBS[verb].module).app
    command = typer.main.get_command(app)
    code = command.main(args=arguments, prog_name=f"mien {verb}", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _usage_message(error: Exception) -> str | None:
    """The message of a usage error; None if ``error`` is something else.

    Known by its shape, because typer carries its own copy of click's classes since 0.26.
    """
    format_message = getattr(error, "format_message", None)
    return str(format_message()) if callable(format_message) else None


def _silence_stdout() -> None:
    """Point standard output at nothing, so that closing it cannot fail again at exit."""
    with suppress(OSError, ValueError):  # Under a test runner it is no real file.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flush_or_silence() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _silence_stdout()


def _os_failure(error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        _silence_stdout()
        return 141  # What a shell reports for a program stopped by SIGPIPE.
    reason = error.strerror or str(error)
    if error.filename is None:
        _silence_stdout()
        return _fail(f"Cannot write to standard output: {reason}.")
    return _fail(f"Cannot use {os.fsdecode(error.filename)!r}: {reason}.")


def _guarded(verb: str, arguments: list[str]) -> int:
    """Run the verb; every error that a user can cause becomes one sentence and an exit code."""
    try:
        code = _run(verb, arguments)
        sys.stdout.flush()
        return code
    except MienError as error:
        _flush_or_silence()
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("Interrupted.", 130)
    except OSError as error:
        return _os_failure(error)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # click turns it into an exit of 1
            return _os_failure(error.__context__)
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except Exception as error:
        if type(error).__name__ == "Abort":  # click's word for Ctrl-C or end of input
            return _fail("Interrupted.", 130)
        message = _usage_message(error)
        if message is None:
            raise
        if not message:  # `mien data` alone: its help page was printed
            return 2
        return _fail(f"{message.rstrip('.')}; see `mien {verb} --help`.")


def _never_fail_on_a_name() -> None:
    """Write what the terminal's encoding lacks as \\uXXXX instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. ``argv`` defaults to ``sys.argv[1:]``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _never_fail_on_a_name()
    if not arguments:
        print(help_text())
        return 2
    word, rest = arguments[0], arguments[1:]
    if word in ("--version", "-V"):
        from mien._version import __version__

        print(f"mien {__version__}")
        return 0
    if word in _HELP_FLAGS:
        if rest and rest[0] in VERBS:
            return _guarded(rest[0], ["--help"])
        print(help_text())
        return 0
    if word not in VERBS:
        return _unknown(word)
    return _guarded(word, rest)
