"""Hooks of mkdocs.yml."""

from __future__ import annotations

import re


def on_page_content(html: str, **_: object) -> str:
    """Sphinx's roles (``:func:`` …) of the docstrings, without their names."""
    return re.sub(r":(?:func|class|meth|mod|data|attr):\s*(?=<code>)", "", html)
