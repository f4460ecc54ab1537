"""Decoding in worker processes: as in this one, but stopped where it takes too much."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.errors import ImageError
from mien.images import read_image
from mien.images.workers import DecodePool

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")


def png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def test_a_worker_answers_as_this_process_does(jpeg, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg)
    with DecodePool() as pool:
        image = pool.read_image(path)
        assert np.array_equal(image, read_image(path))
        assert image.flags.writeable
        for data, options in [(b"no picture", {}), (jpeg[:999], {}), (jpeg, {"max_pixels": 99})]:
            with pytest.raises(ImageError) as here:
                read_image(data, name="a.bin", **options)
            with pytest.raises(ImageError) as there:
                pool.read_image(data, name="a.bin", **options)
            assert str(there.value) == str(here.value)


@pytest.mark.parametrize("limits", [{"seconds": 0.02}, {"memory": 20 << 20}])
def test_what_takes_too_much_is_stopped_and_the_next_is_read(jpeg, limits):
    with DecodePool(**limits) as pool:
        for _ in range(2):
            with pytest.raises(ImageError, match=r"takes (too long|more memory)"):
                pool.read_image(png(6000))
            assert pool.read_image(png(64)).shape == (64, 64, 3)


def test_a_large_image_leaves_room_for_the_next():
    with DecodePool(memory=320 << 20) as pool:
        for _ in range(3):
            assert pool.read_image(png(6000)).shape == (6000, 6000, 3)


def test_a_worker_that_somebody_ended_is_replaced(jpeg):
    with DecodePool() as pool:
        pool.read_image(jpeg)
        (worker,) = pool._idle
        worker._process.kill()
        worker._process.wait()
        assert pool.read_image(jpeg).shape == (512, 512, 3)


def test_threads_share_a_pool(jpeg):
    want = read_image(jpeg)
    with DecodePool(2) as pool, ThreadPoolExecutor(8) as threads:
        images = list(threads.map(pool.read_image, [jpeg] * 40))
        assert len(pool._idle) == 2
    assert all(np.array_equal(image, want) for image in images)


def test_closing_ends_a_call_under_way():
    pool = DecodePool(seconds=60)
    pool.read_image(png(64))
    caught: list[str] = []

    def call() -> None:
        try:
            for _ in range(1000):
                pool.read_image(png(4000))
        except ImageError as error:
            caught.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)
    pool.close()
    thread.join(20)
    assert not thread.is_alive()
    assert "closed" in caught[0]
    with pytest.raises(ImageError, match="closed"):
        pool.read_image(png(64))


def test_a_fork_has_workers_of_its_own(jpeg):
    with DecodePool() as pool:
        pool.read_image(jpeg)
        child = os.fork()
        if not child:
            os._exit(0 if pool.read_image(jpeg).shape == (512, 512, 3) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert pool.read_image(jpeg).shape == (512, 512, 3)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, None])
def test_workers_end_with_their_owner(jpeg, end, tmp_path):
    """However the process ends: here with one worker idle, and at its end or under a signal."""
    (tmp_path / "a.jpg").write_bytes(jpeg)
    code = """
        import sys, time
        from mien.images.workers import DecodePool
        pool = DecodePool()
        pool.read_image(sys.argv[1])
        print(pool._idle[0]._process.pid, flush=True)
        time.sleep(float(sys.argv[2]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.jpg")]
    with subprocess.Popen(
        [*command, "0" if end is None else "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        worker = int(owner.stdout.readline())
        if end is not None:
            owner.send_signal(end)
        assert owner.communicate()[1] == b""
    for _ in range(200):
        if not running(worker):
            return
        time.sleep(0.05)
    pytest.fail("the worker still runs")


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
