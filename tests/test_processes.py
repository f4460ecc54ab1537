"""mien beside forks, pools, threads and event loops; private, and content with a bare machine."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from helpers_onnx import make_onnx

from mien._fork import native
from mien.classify import Classifier
from mien.detect import load_detector
from mien.pipeline import Analyzer, Found

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

FACES = np.random.default_rng(0).integers(0, 256, (8, 48, 48), dtype=np.uint8)
IMAGE = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), dtype=np.uint8)


def in_a_child(work, seconds: float = 30.0) -> str:
    """Run ``work`` in a forked child: "done", "failed" or "hangs"."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "failed" if status else "done"
        time.sleep(0.002)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hangs"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_onnx(tmp_path_factory.mktemp("processes") / "tiny.onnx")


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_child_of_a_parent_that_looked_at_several_faces_answers(model):
    classifier = Classifier(model, threads=2)
    want = classifier.logits(FACES)  # starts the pool

    def work():
        np.testing.assert_array_equal(classifier.logits(FACES), want)

    assert [in_a_child(work) for _ in range(3)] == ["done"] * 3
    np.testing.assert_array_equal(classifier.logits(FACES), want)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
@pytest.mark.parametrize("what", ["classifier", "yunet", "haar"])
def test_a_fork_while_other_threads_work_hangs_nobody(what, shipped_model):
    if what == "classifier":
        classifier = Classifier(shipped_model, threads=1)
        count, work = 20, lambda: classifier.logits(FACES[:1])
    else:
        detector = load_detector(what)
        count, work = 5, lambda: detector.detect(IMAGE)
    stop = threading.Event()

    def hammer():
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        outcomes = [in_a_child(work) for _ in range(count)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert outcomes == ["done"] * count


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_fork_waits_until_no_thread_is_in_native_code():
    entered, leave = threading.Event(), threading.Event()
    lock = threading.Lock()  # such as a thread pool's in OpenCV

    def inside():
        with native, native, lock:  # nested, as a detector that resizes
            entered.set()
            leave.wait()

    def late():  # what comes while a fork waits has to wait too
        with native, lock:
            pass

    thread = threading.Thread(target=inside)
    thread.start()
    entered.wait()
    threading.Timer(0.3, leave.set).start()
    other = threading.Timer(0.1, late)
    other.start()
    assert in_a_child(late, 5) == "done"
    for each in (thread, other):
        each.join(5)
        assert not each.is_alive()


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_child_answers_when_the_file_is_gone(tmp_path):
    path = make_onnx(tmp_path / "gone.onnx")
    classifier = Classifier(path)
    want = classifier.logits(FACES)
    path.unlink()

    def work():
        np.testing.assert_array_equal(classifier.logits(FACES), want)

    assert in_a_child(work) == "done"


def classify(analyzer: Analyzer) -> list[float]:
    found = Found("x", 48, 48, "none", (), (), ())
    assert analyzer.classify([found])[0].faces == ()
    faces = [analyzer.analyze(face, faces=True).faces[0] for face in FACES[:2]]
    assert analyzer.analyze(IMAGE, color="bgr").width == 1280
    return [face.confidence for face in faces]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_an_analyzer_goes_through_a_pool(model, method):
    analyzer = Analyzer(model, min_face=0.1, min_confidence=0.01, threads=2)
    analyzer.classifier.logits(FACES)
    with multiprocessing.get_context(method).Pool(1) as pool:
        got = pool.apply_async(classify, (analyzer,)).get(timeout=120)
    assert got == pytest.approx(classify(analyzer), abs=1e-6)


@pytest.mark.parametrize("detector", ["yunet", "haar"])
def test_pickling_keeps_what_an_analyzer_was_built_with(model, detector):
    analyzer = Analyzer(model, detector, min_face=0.1, min_confidence=0.2, flip=True, threads=3)
    again = pickle.loads(pickle.dumps(analyzer))
    assert (again.flip, again.min_confidence, again.info) == (True, 0.2, analyzer.info)
    assert vars(again.detector).keys() == vars(analyzer.detector).keys()
    assert again.detector.min_face == 0.1
    np.testing.assert_array_equal(
        again.classifier.predict_proba(FACES), analyzer.classifier.predict_proba(FACES)
    )


def test_threads_and_an_event_loop_share_an_analyzer(model):
    analyzer = Analyzer(model, threads=2)
    want = classify(analyzer)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(classify, [analyzer] * 8)) == [want] * 8

    async def together():
        return await asyncio.gather(*(asyncio.to_thread(classify, analyzer) for _ in range(4)))

    assert asyncio.run(together()) == [want] * 4


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_server_that_loads_and_then_forks_answers(model):
    """As gunicorn does with --preload."""
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from fastapi.testclient import TestClient

    from mien.web.app import create_app

    app = create_app(model=model)
    _, png = cv2.imencode(".png", FACES[0])

    def work():
        client = TestClient(app, base_url="http://127.0.0.1:8000")
        headers = {"content-type": "image/png"}
        answer = client.post("/v1/predict?faces=true", content=png.tobytes(), headers=headers)
        assert answer.status_code == 200, answer.text

    try:
        assert [in_a_child(work) for _ in range(2)] == ["done"] * 2
    finally:
        app.state.workers.close()
