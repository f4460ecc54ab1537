"""Times one training step in float32 and in bfloat16 on the CPU; run as a script, prints JSON.

It runs in a process of its own (see `mien.train.precision`), because where a processor or its
hypervisor promises bfloat16 units that do not work, the first bfloat16 operation kills the process.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

STEPS = 7


def step(bf16: bool) -> Callable[[], float]:
    """A forward and backward pass of a convolution and a dense layer; the call returns seconds."""
    images = torch.randn(64, 64, 24, 24).to(memory_format=torch.channels_last)
    images.requires_grad_(True)
    network = nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 24 * 24, 32)
    )

    def run() -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = network(images).float().square().mean()
        loss.backward()
        return time.perf_counter() - start

    return run


def main() -> None:
    """Print {"float32": seconds, "bfloat16": seconds}: medians, after one step to warm up."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # A crash must leave no core file.
    except (ImportError, OSError, ValueError):
        pass
    torch.manual_seed(0)
    steps = {"float32": step(False), "bfloat16": step(True)}
    for run in steps.values():
        run()
    # In turns, so that another busy process slows both alike.
    rounds = [{name: run() for name, run in steps.items()} for _ in range(STEPS)]
    print(json.dumps({name: statistics.median(r[name] for r in rounds) for name in steps}))


if __name__ == "__main__":
    main()
