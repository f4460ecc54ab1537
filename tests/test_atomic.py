"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from mien.atomic import (
    atomic_folder,
    atomic_path,
    lock,
    make_folder,
    open_atomic,
    output_error,
    remove_leftovers,
    write_bytes,
    write_text,
)
from mien.errors import OutputError


def test_text_and_bytes_arrive(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Miene ☺\n")
    write_bytes(tmp_path / "b.bin", b"\x00\xff")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "Miene ☺\n"
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "b.bin"]


def test_a_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with open_atomic(path) as stream:
            stream.write("half of the new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with open_atomic(path) as stream:
        stream.write("x")
        stream.flush()
        assert not path.exists()
    assert path.read_text() == "x"


def test_permissions_follow_the_umask_and_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    old = os.umask(0o027)
    try:
        write_text(path, "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    write_text(path, "y")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_link_is_followed(tmp_path: Path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    write_text(real, "old")
    link.symlink_to(real)
    write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/a.txt", "it is a file"),
        ("file/b/a.txt", "parents is a file"),
        ("folder", "it is a folder"),
        ("x" * 300, "too long"),
        ("a\0b.txt", "null character"),
    ],
)
def test_bad_targets_get_one_sentence(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    target = tmp_path / name
    with pytest.raises(OutputError, match=reason) as caught:
        write_text(target, "x")
    assert str(target.parent) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_may_not_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match=r"Cannot write '.*a\.txt': permission denied; choose"):
        write_text(tmp_path / "a.txt", "x")


def test_names_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("漢" * 83 + ".csv")
    with lock(path):
        write_text(path, "caf\udce9")
    assert path.read_text() == "caf\\udce9"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_errors_of_other_files_keep_their_name(tmp_path: Path) -> None:
    def copy() -> None:
        with open_atomic(tmp_path / "a.txt") as stream:
            stream.write((tmp_path / "nowhere").read_text())

    with pytest.raises(FileNotFoundError, match="nowhere"):
        copy()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_device(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="disk is full"):
        write_text("/dev/full", "x")
    assert Path("/dev/full").exists()


def test_a_file_over_the_limit_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    script = """
        import resource, sys
        from mien.atomic import write_bytes
        from mien.errors import OutputError
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            write_bytes(sys.argv[1], b"x" * 100_000)
        except OutputError as error:
            print(error)
    """
    path = tmp_path / "a.bin"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "size limit" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_atomic_path_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "m.onnx") as temporary:
        assert temporary.suffix == ".onnx"
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"1")
    assert (tmp_path / "m.onnx").read_bytes() == b"1"


KILL = """
import os, signal, sys
from mien.atomic import atomic_folder, lock, open_atomic
with lock(sys.argv[1]), open_atomic(sys.argv[1]) as stream, atomic_folder(sys.argv[1] + "d") as d:
    stream.write("half")
    (d / "picture").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
@pytest.mark.parametrize("next_run", [remove_leftovers, lambda path: lock(path).__enter__()])
def test_leftovers_of_killed_writers_go_and_nothing_else(
    tmp_path: Path, next_run: Callable[[Path], object]
) -> None:
    target = tmp_path / "run.v1.ckpt"
    subprocess.run([sys.executable, "-c", KILL, str(target)], check=False)
    left = set(tmp_path.iterdir())
    assert len(left) == 3
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "keep").touch()
    others = [tmp_path / ".run.v1.ckpt", tmp_path / ".mien-xyz-run.ckpt", target]
    for other in others:
        other.touch()
    link = tmp_path / ".mien-0123456789ab-x"
    link.symlink_to(outside)
    with open_atomic(tmp_path / "other") as alive:
        alive.write("a writer that lives")
        next_run(target)
        assert not {p for p in left if p.exists() and "lock" not in p.name}
    assert (tmp_path / "other").read_text() == "a writer that lives"
    assert all(other.exists() for other in [*others, outside / "keep"])
    remove_leftovers(tmp_path / "missing" / "x.ckpt")


def test_the_first_write_into_a_folder_removes_leftovers(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILL, str(tmp_path / "a")], check=False)
    write_text(tmp_path / "b", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_two_writers_and_who_is_first(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    with lock(target), pytest.raises(OutputError) as caught, lock(target):
        pass
    assert f"(process {os.getpid()} on " in str(caught.value)
    assert "is being written by another run of mien" in str(caught.value)
    with lock(target), lock(tmp_path / "b.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_run_is_stale(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    subprocess.run([sys.executable, "-c", KILL, str(target)], check=False)
    assert (tmp_path / ".mien-lock-a.mp4").exists()
    with lock(target):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / ".mien-lock-a").symlink_to(mine)
    os.link(mine, tmp_path / ".mien-lock-b")
    with pytest.raises(OutputError), lock(tmp_path / "a"):
        pass
    with lock(tmp_path / "b"):
        pass
    assert mine.read_text() == "mine"


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "set"
    with atomic_folder(target) as folder:
        (folder / "a").touch()
        assert not target.exists()
    assert (target / "a").exists()
    with pytest.raises(OutputError, match="not empty"), atomic_folder(target):
        pass

    def fail() -> None:
        with atomic_folder(tmp_path / "b") as folder:
            (folder / "a").touch()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_make_folder(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "f").write_text("x")
    with pytest.raises(OutputError, match="it is a file"):
        make_folder(tmp_path / "f")
    with pytest.raises(OutputError, match="parents is a file"):
        make_folder(tmp_path / "f" / "g")


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
def test_where_locks_are_unknown_files_are_written_and_no_leftover_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell there whether a work file's writer lives."""
    import fcntl

    other = tmp_path / ".mien-0123456789ab-a.txt"
    other.write_text("of a writer that lives, perhaps")

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unknown)
    with lock(tmp_path / "a.txt"):
        write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"
    assert sorted(p.name for p in tmp_path.iterdir()) == [other.name, "a.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_leftover_that_cannot_be_opened_stops_nobody(tmp_path: Path) -> None:
    """A socket of that name, and one that another process removed in between."""
    with socket.socket(socket.AF_UNIX) as server:
        strange = tmp_path / ".mien-0123456789ab-s"
        old = Path.cwd()
        os.chdir(tmp_path)  # the path of a socket is short
        try:
            server.bind(strange.name)
        finally:
            os.chdir(old)
        write_text(tmp_path / "b", "x")
    assert (tmp_path / "b").read_text() == "x"


def test_an_unknown_failure_is_told_in_the_systems_words(tmp_path: Path) -> None:
    strange = OSError(errno.ENXIO, "No such device or address")
    assert str(output_error("a", strange)) == "Cannot write 'a': No such device or address."
    assert str(output_error("a", OSError("odd"))) == "Cannot write 'a': odd."
    assert str(output_error("a", OSError())) == "Cannot write 'a': unknown error."
