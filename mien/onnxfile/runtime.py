"""onnxruntime, imported here and nowhere else; and the device that it shall use, by name."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from mien.errors import MissingExtraError, ModelError

#: What an unknown model may take to look at one face, before it is used. Of the known ones
#: InceptionResNetV2 takes most: 217 MB of weights and a second.
MOST_MEMORY = 1 << 30
MOST_SECONDS = 20.0

#: A provider of onnxruntime: its name, or its name and options.
Provider = str | tuple[str, dict[str, Any]]

#: ``device`` -> onnxruntime's provider; "auto" takes the first of them that is there.
DEVICES: dict[str, str] = {
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


def onnxruntime() -> Any:
    """The module ``onnxruntime``, which reports nothing to its maker.

    From 1.32 on its import writes a device id below the home folder and then looks up its maker's
    host, unless ``ORT_DISABLE_TELEMETRY`` is set at that moment; it is set here for just as long.
    Where the caller's own code imported onnxruntime earlier, its events are switched off.

    Raises:
        MissingExtraError: onnxruntime is not installed, or its library cannot be loaded.
    """
    name, first = "ORT_DISABLE_TELEMETRY", "onnxruntime" not in sys.modules
    before = os.environ.get(name)
    if first:
        os.environ[name] = "1"
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingExtraError(
            f"onnxruntime cannot be imported ({error}); "
            "install it with: pip install 'onnxruntime>=1.19'"
        ) from None
    finally:
        if first and before is None:
            os.environ.pop(name, None)
        elif first:
            os.environ[name] = str(before)
    with suppress(AttributeError):
        ort.disable_telemetry_events()
    return ort


def session_options() -> Any:
    """Options of a session that runs on the caller's thread and prints nothing besides exceptions.

    Threads take different faces instead of parts of one: measured 1.3 times as fast on two cores,
    and no thread spins while it waits for the other.
    """
    options = onnxruntime().SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


def choose_providers(device: str | Sequence[Provider]) -> Sequence[Provider]:
    """onnxruntime's providers for ``device``, best first, each of them installed.

    Args:
        device: a name of :data:`DEVICES`, "auto", or onnxruntime's own names (with options).

    Raises:
        ModelError: unknown, or this onnxruntime was built without it.
    """
    there = onnxruntime().get_available_providers()
    if device == "auto":
        return [name for name in DEVICES.values() if name in there][:1]
    if isinstance(device, str) and device not in DEVICES:
        raise ModelError(f"Unknown device {device!r}; known: auto, {', '.join(DEVICES)}.")
    wanted: Sequence[Provider] = [DEVICES[device]] if isinstance(device, str) else device
    if not wanted:
        raise ModelError("providers is empty; name a device or one of onnxruntime's providers.")
    for provider in wanted:
        name = provider if isinstance(provider, str) else provider[0]
        if name not in there:
            raise ModelError(
                f"This onnxruntime has no {name}, only {', '.join(there)}; "
                "docs/install.md says which package brings it."
            )
    return wanted


_registered_by: int | None = None


def limit_memory(options: Any) -> None:
    """Have a session take its memory from an arena of :data:`MOST_MEMORY` bytes.

    onnxruntime knows one such arena a process; a forked child does without, for its parent may
    hold the lock. Where the caller's code registered one, its limit holds.
    """
    global _registered_by
    if _registered_by is None:
        ort = onnxruntime()
        arena = ort.OrtArenaCfg({"max_mem": MOST_MEMORY, "arena_extend_strategy": 1})
        memory = ort.OrtMemoryInfo(
            "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
        )
        with suppress(Exception):  # its errors share no public base class
            ort.create_and_register_allocator(memory, arena)
        _registered_by = os.getpid()
    if _registered_by == os.getpid():
        options.add_session_config_entry("session.use_env_allocators", "1")


@contextmanager
def time_limit(run_options: Any) -> Iterator[None]:
    """Stop a run that has ``run_options`` after :data:`MOST_SECONDS`; it gives its memory back."""
    run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    timer = threading.Timer(MOST_SECONDS, setattr, (run_options, "terminate", True))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
