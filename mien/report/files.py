"""A report's files: JSON, Markdown and HTML side by side."""

from __future__ import annotations

from pathlib import Path

from mien.atomic import make_folder, write_text
from mien.report.document import Document
from mien.report.html import to_html
from mien.report.markdown import to_markdown


def write_files(folder: str | Path, stem: str, record: str, document: Document) -> dict[str, Path]:
    """Write ``stem.json`` (``record``, JSON), ``stem.md`` and ``stem.html`` into ``folder``.

    Returns:
        "json", "markdown", "html" -> path.

    Raises:
        OutputError: the folder cannot be made or a file cannot be written.
    """
    target = make_folder(folder)
    texts = {
        "json": ("json", f"{record.rstrip()}\n"),
        "markdown": ("md", to_markdown(document)),
        "html": ("html", to_html(document)),
    }
    paths = {kind: target / f"{stem}.{ending}" for kind, (ending, _) in texts.items()}
    for kind, (_, text) in texts.items():
        write_text(paths[kind], text)
    return paths
