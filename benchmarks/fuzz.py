"""Coverage-guided fuzzing of what reads untrusted bytes (atheris, libFuzzer).

    pip install atheris
    python benchmarks/fuzz.py images -max_total_time=300 tests/corpus/images
    make fuzz                                   # every target, five minutes each

Anything but mien's own errors is a crash, and libFuzzer keeps the input. The corpora in
``tests/corpus`` are small; ``tests/test_corpus.py`` reads them in every run of the tests.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(tempfile.mkdtemp(prefix="mien-fuzz-"))


def images(data: bytes) -> None:
    """``mien.read_image`` of bytes."""
    from mien.images import read_image

    read_image(data, max_pixels=1_000_000)


def csv(data: bytes) -> None:
    """FER2013's CSV."""
    from mien.data import read_dataset

    path = FOLDER / "data.csv"
    path.write_bytes(data)
    read_dataset(path)


def votes(data: bytes) -> None:
    """FER+ votes beside the two rows of FER2013's CSV that they are of."""
    from mien.data import read_dataset
    from mien.data.ferplus import majority_labels

    path = FOLDER / "voted" / "data.csv"
    if not path.exists():
        path.parent.mkdir()
        pixels = " ".join(["7"] * 48 * 48)
        rows = "".join(f"{k},{pixels},Training\n" for k in range(2))
        path.write_text(f"emotion,pixels,Usage\n{rows}", encoding="ascii")
    path.with_name("datanew.csv").write_bytes(data)
    found = read_dataset(path).votes
    if found is not None:
        majority_labels(found)


def parquet(data: bytes) -> None:
    """A parquet file, footer first."""
    from mien.data import read_dataset

    path = FOLDER / "data.parquet"
    path.write_bytes(b"PAR1" + data + b"PAR1")
    read_dataset(path)


def modelinfo(data: bytes) -> None:
    """The record that a model carries."""
    from mien.modelinfo import METADATA_KEY, ModelInfo

    ModelInfo.from_metadata({METADATA_KEY: data.decode("utf-8", "replace")})


def graph(data: bytes) -> None:
    """A model file, before onnxruntime sees it."""
    from mien.classify import load_classifier

    path = FOLDER / "model.onnx"
    path.write_bytes(data)
    load_classifier(path, 1)


def websocket(data: bytes) -> None:
    """A message on ``/v1/stream``, through the protocol that serves it."""
    from websockets.frames import Frame
    from websockets.streams import StreamReader

    from mien.errors import ImageError
    from mien.images import read_image

    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    parse = Frame.parse(reader.read_exact, mask=True, max_size=2 << 20)
    try:
        next(parse)
        return
    except StopIteration as done:
        payload = done.value.data
    except Exception:  # the protocol's own refusals close the connection
        return
    try:
        read_image(bytes(payload), max_pixels=2_100_000)
    except ImageError:
        return


TARGETS: dict[str, Callable[[bytes], None]] = {
    f.__name__: f for f in (images, csv, votes, parquet, modelinfo, graph, websocket)
}


def once(target: str, data: bytes) -> None:
    """One input; mien's own errors are right answers. Raises whatever else comes."""
    from mien.errors import MienError

    try:
        TARGETS[target](data)
    except MienError:
        return


def main() -> None:
    """Fuzz one target until libFuzzer's limits; its options and corpora follow the name."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"usage: fuzz.py {{{','.join(TARGETS)}}} [libFuzzer's options] [CORPUS …]")
    target = sys.argv[1]
    import atheris

    with atheris.instrument_imports(include=["mien", "PIL", "websockets"]):
        once(target, json.dumps({}).encode())  # imports it all

    def one(data: bytes) -> None:
        once(target, data)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
