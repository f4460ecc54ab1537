"""A dry run: how much there is to do, and how long a sample of it takes."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mien.batch.dataset import read_record
from mien.batch.plan import Item, check_sources, find_items
from mien.batch.run import DEFAULT, open_dataset, parse_shard, shard_folder, unseen
from mien.batch.worker import Opening, Options, Photos, Segment, Worker
from mien.classify import available_cores

#: Photos and videos that are tried, and the seconds of a video that are looked at.
TRIED_PHOTOS, TRIED_VIDEOS, TRIED_SECONDS = 32, 4, 4.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a dry run found: how much there is to do, and how long that will take.

    Attributes:
        before: sources that are done already, and not counted in the others.
        photo_seconds: of one core for one photo.
        video_seconds: length of all videos, by what was sampled.
        video_cost: seconds of one core for one second of video.
        workers: processes; ``seconds`` is the time with so many.
    """

    photos: int
    videos: int
    before: int
    photo_seconds: float
    video_seconds: float
    video_cost: float
    workers: int

    @property
    def seconds(self) -> float:
        work = self.photos * self.photo_seconds + self.video_seconds * self.video_cost
        return work / self.workers


def estimate(
    sources: Sequence[str | Path] | str | Path,
    out: str | Path | None = None,
    *,
    options: Options = DEFAULT,
    workers: int | None = None,
    shard: str | None = None,
    retry: bool = False,
    column: str = "",
    seed: int = 0,
) -> Estimate:
    """Count what there is to do and try a sample of it in this process: nothing is written.

    Args:
        sources, options, workers, shard, retry, column: as for :func:`batch`.
        out: the folder, to leave out what is done.

    Raises:
        MienError: as :func:`batch`.
    """
    sources = [sources] if isinstance(sources, (str, Path)) else list(sources)
    check_sources(sources)
    share, seen = parse_shard(shard), set[bytes]()
    out = None if out is None else shard_folder(out, shard)
    if out is not None and read_record(out) is not None:
        seen, failed, _ = open_dataset(out, options, options.analyzer(), sweep=False).done()
        seen -= failed if retry else set()
    before, chance = len(seen), random.Random(seed)
    counts = [0, 0]
    samples: tuple[list[Item], list[Item]] = ([], [])
    for item in find_items(sources, unseen(seen, *share), column):
        sample, most = samples[item.video], (TRIED_PHOTOS, TRIED_VIDEOS)[item.video]
        counts[item.video] += 1
        if len(sample) < most:
            sample.append(item)
        elif (place := chance.randrange(counts[item.video])) < most:
            sample[place] = item
    worker = Worker(options)
    worker.work(Photos(tuple(samples[0][:1])))  # the first call takes longer
    begun = time.perf_counter()
    worker.work(Photos(tuple(samples[0])))
    photo = (time.perf_counter() - begun) / max(1, len(samples[0]))
    length = looked_at = took = 0.0
    opened = [Opening(item) for item in samples[1]]
    for task in opened:
        video = worker.work(task).video
        if video is not None:
            seconds = video.seconds_expected or 0.0
            segment = worker.work(Segment(task.item, video, 0.0, min(seconds, TRIED_SECONDS)))
            length, took = length + seconds, took + segment.seconds
            looked_at += min(seconds, TRIED_SECONDS)
    video_seconds = length / max(1, len(opened)) * counts[1]
    cost = took / looked_at if looked_at else 0.0
    cores = workers or available_cores()
    return Estimate(counts[0], counts[1], before, photo, video_seconds, cost, cores)
