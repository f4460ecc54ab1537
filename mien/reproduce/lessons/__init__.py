"""``docs/lessons.md``: six lessons for students, each with one plot of our own measured runs."""

from __future__ import annotations

from mien.reproduce.lessons.page import FOLDER, lessons_page

__all__ = ["FOLDER", "lessons_page"]
