"""Grey face crops in, calibrated probabilities out: an onnxruntime session and its ModelInfo."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import zoo
from mien._fork import native, renew_after_fork
from mien._system import mode_of
from mien.errors import ModelError, check_count, first_line
from mien.modelinfo import ModelInfo
from mien.onnxfile import runtime
from mien.onnxfile.graph import check_graph
from mien.preprocess import normalize, probabilities

#: Most faces per run of the session. From 8 to 64 the speed is the same within noise
#: (`mien bench`); small runs need less memory.
BATCH_SIZE = 16


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Classifier:
    """A classifier that describes itself, run by onnxruntime.

    May be shared between threads, used in a forked child, and pickled: it is loaded anew then.

    Args:
        path: an ONNX file written by ``mien export``.
        threads: faces are shared out over so many threads; None takes every core.
        device: where to run: "cpu", "cuda", "directml", "coreml", "openvino", "auto", or
            onnxruntime's own providers, best first.

    Raises:
        ModelError: no such file, not ONNX, not mien's, its graph contradicts its record, is more
            than mien runs, or gives no numbers; or this onnxruntime has no such device.
    """

    def __init__(
        self,
        path: str | Path,
        threads: int | None = None,
        device: str | Sequence[runtime.Provider] = "cpu",
    ) -> None:
        self.path = Path(path)
        mode = mode_of(self.path, ModelError)
        if stat.S_ISDIR(mode):
            raise ModelError(f"{self.path} is a folder; give the path of a model in it.")
        if not stat.S_ISREG(mode):
            raise ModelError(f"Model file {self.path} does not exist.")
        if threads is not None:
            check_count("threads", threads)
        self._arguments = (self.path.absolute(), threads, device)
        self._providers = runtime.choose_providers(device)
        self._threads = threads or available_cores()
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._run_options: Any = runtime.onnxruntime().RunOptions()
        data = self._read()
        self.sha256: str = hashlib.sha256(data).hexdigest()
        metadata = check_graph(data, str(self.path))
        self.info: ModelInfo = ModelInfo.from_metadata(metadata, str(self.path))
        shipped = any(entry.sha256 == self.sha256 for entry in zoo.MODELS.values())
        self._session = self._open(data, bounded=not shipped)
        try:
            self._input = self._check_graph()
        except UnicodeDecodeError:
            raise ModelError(f"{self.path} is damaged: a name in it is no text.") from None
        if not shipped:  # one face, in bounded memory and time; then without the bound
            size = self.info.input_size
            face = np.linspace(1, 255, size * size).astype(np.uint8).reshape(1, size, size)
            with runtime.time_limit(self._run_options):
                self._run(normalize(face, self.info))
            self._session = self._open(data)
        self._run_options = None
        renew_after_fork(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def after_fork(self) -> None:
        """In a forked child: the parent's threads are gone, and its locks may stay locked."""
        self._pool, self._lock = None, threading.Lock()

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ModelError(f"{self.path} cannot be read: {error.strerror or error}.") from None

    def _open(self, data: bytes, bounded: bool = False) -> Any:
        ort = runtime.onnxruntime()
        options = runtime.session_options()
        if bounded:
            runtime.limit_memory(options)
        try:
            with native:
                session = ort.InferenceSession(
                    data, options, providers=self._providers, enable_fallback=0
                )
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise ModelError(
                f"{self.path} is not a model that onnxruntime can load: {first_line(error)}."
            ) from None
        first = self._providers[0]
        wanted = first if isinstance(first, str) else first[0]
        if wanted not in session.get_providers():
            raise ModelError(f"onnxruntime has {wanted}, but it does not start on this machine.")
        return session

    def _check_graph(self) -> str:
        """The graph must take and give what the record says; returns the input's name."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        info, size = self.info, self.info.input_size
        if len(inputs) != 1 or not outputs:
            raise ModelError(f"{self.path} has {len(inputs)} inputs; expected one.")
        shape, expected = list(inputs[0].shape), [info.channels, size, size]
        if inputs[0].type != "tensor(float)" or len(shape) != 4 or not _fits(shape[1:], expected):
            raise ModelError(
                f"{self.path} takes {inputs[0].type} {shape}, but its record says float32 "
                f"(N, {info.channels}, {size}, {size}); export it again."
            )
        if isinstance(shape[0], int):
            raise ModelError(
                f"{self.path} has a fixed batch of {shape[0]}; export it with a dynamic batch."
            )
        if outputs[0].type != "tensor(float)":
            raise ModelError(f"{self.path} gives {outputs[0].type}, not float32; export it again.")
        classes = outputs[0].shape[-1] if outputs[0].shape else None
        if isinstance(classes, int) and classes != len(info.labels):
            raise ModelError(
                f"{self.path} gives {classes} outputs but names {len(info.labels)} labels; "
                "export it again."
            )
        return str(inputs[0].name)

    def logits(self, faces: NDArray[np.uint8], batch_size: int = BATCH_SIZE) -> NDArray[np.float32]:
        """Raw outputs before temperature and softmax.

        Args:
            faces: uint8 (N, input_size, input_size), grey, 0..255. N may be 0.
            batch_size: faces per run of the session; bounds the memory.

        Returns:
            float32 (N, K), K = ``len(info.labels)``.

        Raises:
            ModelError: another shape or dtype, or a graph that gives something else.
        """
        size, classes = self.info.input_size, len(self.info.labels)
        if faces.dtype != np.uint8 or faces.ndim != 3 or faces.shape[1:] != (size, size):
            raise ModelError(
                f"Faces are {faces.dtype} {faces.shape}; {self.info.name} takes uint8 "
                f"(N, {size}, {size})."
            )
        out = np.empty((len(faces), classes), np.float32)
        step = max(1, min(batch_size, -(-len(faces) // self._threads)))

        def fill(start: int) -> None:
            x = normalize(faces[start : start + step], self.info)
            rows = self._run(x)
            if rows.shape != (len(x), classes):
                raise ModelError(
                    f"{self.path} gave {rows.shape} for {len(x)} faces and {classes} labels; "
                    "export it again."
                )
            out[start : start + step] = rows

        starts = range(0, len(faces), step)
        for _ in map(fill, starts) if len(starts) < 2 else self._workers().map(fill, starts):
            pass  # an exception in a worker is raised here
        return out

    def _workers(self) -> Executor:
        """The threads, started when the first call has work for more than one."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, "mien-classify")
            return self._pool

    def _run(self, x: NDArray[np.float32]) -> NDArray[Any]:
        try:
            with native:
                rows = np.asarray(self._session.run(None, {self._input: x}, self._run_options)[0])
        except Exception as error:  # see _open
            raise ModelError(f"{self.path} failed while running: {first_line(error)}.") from None
        if not np.isfinite(rows).all():
            raise ModelError(
                f"{self.path} gives no numbers (NaN or infinity); its weights are broken."
            )
        return rows

    def predict_proba(
        self, faces: NDArray[np.uint8], batch_size: int = BATCH_SIZE, flip: bool = False
    ) -> NDArray[np.float32]:
        """Calibrated probabilities: ``softmax(logits / temperature)``.

        Args:
            faces: uint8 (N, input_size, input_size), grey, 0..255.
            batch_size: faces per run of the session.
            flip: average the probabilities with the mirrored face's; twice the time.

        Returns:
            float32 (N, K); each row sums to 1.
        """
        logits = partial(self.logits, batch_size=batch_size)
        return probabilities(logits, faces, self.info.temperature, flip)


def classifier_of(data: bytes) -> Classifier:
    """A model whose file is in memory alone. Raises ModelError as :class:`Classifier` does."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(data)
        return Classifier(path)


def load_classifier(
    name_or_path: str | Path = zoo.DEFAULT,
    threads: int | None = None,
    device: str | Sequence[runtime.Provider] = "cpu",
) -> Classifier:
    """Load a shipped model by name, or any ``.onnx`` file that ``mien export`` wrote.

    Args:
        name_or_path: the model.
        threads, device: see :class:`Classifier`.

    Raises:
        ModelError: neither a shipped model nor a file; or see :class:`Classifier`.
    """
    path = Path(name_or_path)
    shipped = isinstance(name_or_path, str) and name_or_path in zoo.MODELS
    if shipped or not (path.suffix.lower() == ".onnx" or mode_of(path, ModelError)):
        path = zoo.model_path(str(name_or_path))
    return Classifier(path, threads, device)


def _fits(shape: list[Any], expected: list[int]) -> bool:
    """Whether every fixed dimension is the expected one; symbolic ones fit anything."""
    return all(not isinstance(s, int) or s == e for s, e in zip(shape, expected, strict=True))
