"""The command line: ``mien VERB …``. A verb's module is imported only when that verb is called.

A verb is the function of its name in ``mien/cli/<verb>.py``; one of several parts is a
``typer.Typer`` there, ``app``. Exit codes: 0 done, 1 some inputs failed and the rest was done, 2
nothing could be done (the reason is one sentence on standard error), 70 a defect of mien's, 130
interrupted, 143 terminated. ``MIEN_DEBUG=1`` prints a defect's traceback; any other value is
a file to add it to.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from mien._version import __version__
from mien.errors import MienError, first_line, nearest, package_problem
from mien.text import shown

#: Every verb and what it does, in the order of the help page.
VERBS: dict[str, str] = {
    "predict": "Find faces in images and name their expressions.",
    "video": "Follow faces through videos and name their expressions.",
    "batch": "Analyse archives of photos and videos into Parquet tables.",
    "summary": "Sum up tables by source, person and time; export spans.",
    "demo": "Analyse a bundled photo, offline, and show the result.",
    "live": "Watch this machine's camera, on a page or as JSON lines.",
    "serve": "Serve the web page, REST and WebSocket.",
    "models": "List the architectures and the shipped models.",
    "data": "Audit, convert, split and build datasets.",
    "label": "Sort faces into classes on a page, for finetune.",
    "finetune": "Teach a model your own classes from your photos.",
    "calibrate": "Refit a model's confidence on your photos.",
    "train": "Train a classifier from a named recipe.",
    "sweep": "Train a grid of ImageNet backbones.",
    "ensemble": "Average networks; train those that are missing.",
    "distill": "Train a small network on larger ones' answers.",
    "ablate": "Compare recipes seed by seed, one change per row.",
    "reproduce": "Reproduce a paper and report beside it.",
    "evaluate": "Score a model on a split and write the report.",
    "robustness": "Score a model on corrupted faces and missed crops.",
    "panel": "Score a model on photos, as they are and made worse.",
    "explain": "Show which parts of a face an answer rests on.",
    "blend": "Compare a model's mixed expressions with people's votes.",
    "export": "Turn a checkpoint into a self-describing ONNX file.",
    "bench": "Measure speed, start-up time and memory.",
}


def help_text() -> str:
    """The page that ``mien --help`` prints."""
    width = max(map(len, VERBS))
    lines = "".join(f"  {name:<{width}}  {does}\n" for name, does in VERBS.items())
    return f"""\
Usage: mien VERB [OPTIONS] [ARGUMENTS]…

Facial-expression recognition, offline.

Verbs:
{lines}
  mien VERB --help              options of a verb
  mien --version                version
  mien --install-completion     let the shell complete verbs and options"""


def _fail(message: str, code: int = 2) -> int:
    text = " ".join(shown(message).split()) or "unknown error"
    print(f"error: {text}", file=sys.stderr)
    return code


def _unknown(word: str) -> int:
    if word.startswith("-"):
        return _fail(f"Unknown option {word!r}; see `mien --help`.")
    hint = nearest(word.lower(), VERBS, f"; known verbs: {', '.join(VERBS)}.")
    return _fail(f"Unknown verb {word!r}{hint}")


def app_of(verb: str) -> Any:
    """The verb as a ``typer.Typer``; its module is imported."""
    import typer

    module = importlib.import_module(f"mien.cli.{verb}")
    if hasattr(module, "app"):
        return module.app
    app = typer.Typer(add_completion=False)
    app.command()(getattr(module, verb))
    return app


def _run(verb: str, arguments: list[str]) -> int:
    """Import the verb's module and run it; typer's own errors come back as exceptions."""
    import typer.main

    command: Any = typer.main.get_command(app_of(verb))
    names = ["-h", "--help"]
    try:  # not command.main(), which turns Ctrl-C and broken pipes into silent exit codes
        with command.make_context(f"mien {verb}", arguments, help_option_names=names) as context:
            command.invoke(context)
    except typer.Exit as done:
        return int(done.exit_code)
    return 0


def _complete(arguments: list[str]) -> int:
    """What ``--install-completion``, ``--show-completion`` and the shell's completion ask for."""
    import typer.main

    root = typer.Typer(help="Facial-expression recognition, offline.", no_args_is_help=True)
    for name, does in VERBS.items():
        app = app_of(name)
        if len(app.registered_commands) == 1 and app.registered_callback is None:
            root.command(name, help=does)(app.registered_commands[0].callback)
        else:
            root.add_typer(app, name=name, help=does)
    command: Any = typer.main.get_command(root)
    code = command.main(args=arguments, prog_name="mien", standalone_mode=False)
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
    from mien.atomic import reason

    if error.filename is None and error.errno == errno.ENOENT:  # os.getcwd's
        return _fail("The working folder is gone; change to one that exists.")
    if error.filename is None:
        _silence_stdout()
        return _fail(f"Cannot write to standard output: {reason(error)}.")
    return _fail(f"Cannot use {os.fsdecode(error.filename)!r}: {error.strerror or error}.")


def _unexpected(error: Exception) -> int:
    """The last resort: one sentence, and the traceback where it was asked for."""
    import traceback

    asked = os.environ.get("MIEN_DEBUG", "")
    if asked == "1":
        traceback.print_exception(error)
    elif asked:
        with suppress(OSError), Path(asked).open("a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
    _flush_or_silence()
    kind = type(error).__name__
    return _fail(
        f"This is a defect of mien ({kind}: {first_line(error)}). Please report it with what the "
        "same command prints when MIEN_DEBUG=1 is set.",
        70,
    )


def _guarded(arguments: list[str]) -> int:
    """Run the verb; every error that a user can cause becomes one sentence and an exit code."""
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except MienError as error:
        _flush_or_silence()
        return _fail(str(error), error.exit_code)
    except _Terminated:
        return _fail("Terminated.", 128 + signal.SIGTERM)
    except KeyboardInterrupt:
        return _fail("Interrupted.", 130)
    except OSError as error:
        return _os_failure(error)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich's
            return _os_failure(error.__context__)
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except Exception as error:
        if problem := package_problem(error):
            return _fail(str(problem), problem.exit_code)
        message = _usage_message(error)
        if message is None:
            return _unexpected(error)
        if not message:  # `mien data` alone: its help page was printed
            return 2
        return _fail(f"{message.rstrip('.')}; see `mien {arguments[0]} --help`.")


def _never_fail_on_a_name() -> None:
    """Write what the terminal's encoding lacks as \\uXXXX instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _open_closed_streams() -> None:
    """Give a standard stream that the caller closed (``>&-``) to the null device.

    Else the next file that is opened would get its number, and what a library prints would end
    up in it. Standard output gets it for reading alone: results that nobody can take are an error.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        access = os.O_RDONLY if name == "stdout" else os.O_RDWR
        null = os.open(os.devnull, access)
        try:
            os.fstat(number)
        except OSError:
            os.dup2(null, number)
        setattr(sys, name, open(null, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


class _Terminated(KeyboardInterrupt):
    """SIGTERM: everything is cleaned up as after Ctrl-C."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception while the verb runs; a verb may take it over."""
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker has nothing of ours to clean up
            os._exit(128 + number)
        signal.signal(number, signal.SIG_DFL)  # the second one does not wait
        raise _Terminated

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. ``argv`` defaults to ``sys.argv[1:]``."""
    _open_closed_streams()
    _never_fail_on_a_name()
    with _terminable():
        return _guarded(list(sys.argv[1:] if argv is None else argv))


def _dispatch(arguments: list[str]) -> int:
    if "_MIEN_COMPLETE" in os.environ:
        return _complete(arguments)
    if not arguments:
        print(help_text())
        return 2
    word, rest = arguments[0], arguments[1:]
    if word in ("--version", "-V"):
        print(f"mien {__version__}")
        return 0
    if word in ("--install-completion", "--show-completion"):
        return _complete(arguments)
    if word in ("-h", "--help", "help"):
        if rest and rest[0] in VERBS:
            return _run(rest[0], ["--help"])
        print(help_text())
        return 0
    if word not in VERBS:
        return _unknown(word)
    if os.environ.get("TORCHELASTIC_RUN_ID") and word not in ("train", "distill"):
        return _fail(f"torchrun starts `mien train` and `mien distill`; start `mien {word}` alone.")
    return _run(word, rest)
