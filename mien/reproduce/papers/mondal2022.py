"""Mondal 2022: a shallow CNN, the same with dropout, and a deep one."""

from mien.reproduce.spec import load

SYSTEM = load("mondal2022")
