"""A plan on paper for a large archive: `python tools/scale_plan.py [seconds of CPU a photo]`.

Simulates shards on machines of which some are slow, once with one shard a machine and once with
many small ones that machines take in turn, as a Slurm array does.
"""

from __future__ import annotations

import heapq
import sys

import numpy as np

PHOTOS, MACHINES, CORES = 100_000_000, 100, 16
#: Seconds of CPU a photo; spread from photo to photo (log-normal); bytes a photo and a row.
SECONDS, SPREAD, PHOTO_BYTES, ROW_BYTES = 0.052, 0.6, 200_000, 170
#: Share of slow machines, and their speed.
SLOW, SLOW_SPEED = 0.1, 0.5
CHECKPOINT = 60.0


def hours(shards: int, seconds: float, rng: np.random.Generator) -> tuple[float, float]:
    """Until the last machine, and the mean machine, are done; machines take shards in turn."""
    speeds = np.where(np.arange(MACHINES) < SLOW * MACHINES, SLOW_SPEED, 1.0)
    photos = rng.multinomial(PHOTOS, np.full(shards, 1 / shards))
    work = rng.normal(photos, SPREAD * np.sqrt(photos)) * seconds / CORES
    free = [(0.0, machine) for machine in range(MACHINES)]
    for one in work:
        at, machine = heapq.heappop(free)
        heapq.heappush(free, (at + one / speeds[machine], machine))
    ends = [at / 3600 for at, _ in free]
    return max(ends), float(np.mean(ends))


def main() -> None:
    """Print the plan."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    rng = np.random.default_rng(0)
    core_hours = PHOTOS * seconds / 3600
    print("| shards | last machine | mean machine | CPU hours | parts | rows on disk |")
    print("|---:|---:|---:|---:|---:|---:|")
    for shards in (MACHINES, 10 * MACHINES, 100 * MACHINES):
        last, mean = hours(shards, seconds, rng)
        parts = shards * max(1, round(PHOTOS * seconds / CORES / shards / CHECKPOINT))
        print(
            f"| {shards:,} | {60 * last:.0f} min | {60 * mean:.0f} min | {core_hours:,.0f} | "
            f"{parts:,} | {PHOTOS * ROW_BYTES / 1e9:.0f} GB |"
        )
    rate = MACHINES * CORES / seconds
    print()
    print(
        f"{rate:,.0f} photos/s; {rate * PHOTO_BYTES / 1e9:.0f} GB/s to be read; "
        f"{PHOTOS / 1e6:,.0f} million GET and {PHOTOS / 1e3 / 1e6:.1f} million LIST requests for "
        f"each listing."
    )


if __name__ == "__main__":
    main()
