"""Provisional."""

from dataclasses import dataclass


@dataclass
class PrecisionChoice:
    precision: str
    reason: str = ""


def choose_precision(requested: str, device: str) -> PrecisionChoice:
    return PrecisionChoice("bf16" if requested == "bf16" else "32")
