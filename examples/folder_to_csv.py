"""A folder of photos to a table: ``folder_to_csv.py PHOTOS faces.csv``."""

from __future__ import annotations

import sys

from mien import Analyzer
from mien.sinks import CsvSink
from mien.sources import find_images


def main(folder: str, output: str) -> None:
    """Write one row per face; say which images could not be read."""
    analyzer = Analyzer()
    with CsvSink(output, labels=analyzer.info.labels) as sink:
        for result in analyzer.analyze_many(
            find_images([folder]), on_error=lambda name, error: print(error, file=sys.stderr)
        ):
            sink.write(result)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
