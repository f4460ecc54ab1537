"""Names, labels and addresses are shown without what a terminal or a spreadsheet would act on."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.cli import VERBS, main
from mien.errors import MienError
from mien.text import csv_line, csv_table, from_cell, json_line, printable, without_credentials

#: A window's title, a colour, a line break, a turned writing direction, an 8-bit control.
HOSTILE = "a\x1b]0;owned\x07\x1b[31m\nerror: b\u202egpj\u2028\x9b2J\x7f"


def unseen(text: str, keep: str = "\n") -> list[str]:
    """The characters of ``text`` that a terminal would act on or hide."""
    bad = {"Cc", "Cs", "Zl", "Zp"}
    return [
        c
        for c in text
        if c not in keep
        and (unicodedata.category(c) in bad or c in "\u202a\u202b\u202d\u202e\u2066\u2067\u200f")
    ]


def test_what_is_visible_stays() -> None:
    plain = "Müller & Söhne – 笑顔 😀\u200d👩 [b]x[/b] \\n.jpg"
    assert printable(plain) == plain


def test_what_is_not_is_escaped() -> None:
    assert printable("\x1b[31m\n\u202e\x9b") == "\\x1b[31m\\x0a\\u202e\\x9b"
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\\udce9"
    assert str(MienError(f"{HOSTILE} is gone.")) == printable(f"{HOSTILE} is gone.")


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", "path,label\nb;c.jpg,x\n", [["path", "label"], ["b;c.jpg", "x"]]),
        ("a.csv", "path;label\r\nb,c.jpg;x\r\n", [["path", "label"], ["b,c.jpg", "x"]]),
        ("a.csv", "path\tlabel\nb\tx", [["path", "label"], ["b", "x"]]),
        ("a.csv", '"path";"label"\n"b;c\nd";x', [["path", "label"], ["b;c\nd", "x"]]),
        ("a.csv", "path\nb;c.jpg\n", [["path"], ["b;c.jpg"]]),
        ("a.csv", '"pa;th"\nb;c.jpg\n', [["pa;th"], ["b;c.jpg"]]),
        ("a.TSV", "path\nb,c;d\n", [["path"], ["b,c;d"]]),
        ("a.csv", "", [[]]),
    ],
)
def test_tables_are_parted_as_their_header_is(name: str, text: str, rows: list[list[str]]) -> None:
    """A list that a European Excel had saved had no column `path`."""
    assert list(csv_table(io.StringIO(text, newline=""), name)) == rows


@given(st.text())
def test_json_reads_the_same(text: str) -> None:
    line = json_line({"source": text})
    assert json.loads(line) == {"source": text}
    assert not unseen(line[:-1], keep="")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2))
def test_cells_read_the_same_and_are_no_formulas(cells: list[str]) -> None:
    (row,) = csv.reader(io.StringIO(csv_line(cells), newline=""))
    assert [from_cell(cell) for cell in row] == cells
    row = [cell for cell in row if not re.fullmatch(r"-[0-9]+([.][0-9]+)?(e[+-]?[0-9]+)?", cell)]
    assert not [cell for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("http://user:pass@cam/x.mjpg?a=b", "http://***@cam/x.mjpg?a=b"),
        ("rtsp://user:p%40ss:w@10.0.0.2:554/1", "rtsp://***@10.0.0.2:554/1"),
        ("rtsp://tok@cam", "rtsp://***@cam"),
        ("rtsp://a:p@ss@cam/1", "rtsp://***@cam/1"),
        ("http://cam/a@b", "http://cam/a@b"),
        ("me@home.jpg", "me@home.jpg"),
    ],
)
def test_passwords_are_masked(address: str, masked: str) -> None:
    assert without_credentials(address) == masked
    assert str(MienError(f"Camera {address} is gone.")) == f"Camera {masked} is gone."


#: Words after a verb that make it speak of a file's name.
WORDS = {
    "predict": [["{name}"], ["{file}"], ["{file}", "--csv", "{name}/x.csv"]],
    "video": [["{name}"], ["{file}"], ["{video}", "--out", "{name}/o.txt"]],
    "demo": [["--output", "{file}/{name}.png"]],
    "live": [["--camera", "{name}", "--jsonl"]],
    "serve": [["--model", "{file}"]],
    "models": [["{name}"]],
    "data audit": [["--data", "{file}"], ["--data", "{name}"]],
    "data convert": [["{file}", "{name}.csv"], ["{name}", "o.csv"]],
    "batch": [["{name}", "--out", "o"], ["{file}", "--out", "{name}/o"]],
    "summary": [["{name}"], ["{file}"]],
    "finetune": [["{name}", "--out", "o.onnx"], ["{file}", "--out", "{name}.onnx"]],
    "calibrate": [["{name}", "--data", "{file}"], ["{file}.onnx", "--data", "{name}"]],
    "label": [["{name}", "--classes", "a,b"], ["{file}", "--model", "{name}"]],
    "train": [["{name}"], ["mien_fast", "--data", "{file}"]],
    "ensemble": [["{name}"]],
    "distill": [["{name}"]],
    "ablate": [["--table", "{name}"], ["--table", "{file}"]],
    "reproduce": [["{name}"], ["mondal2022", "--data", "{file}"]],
    "evaluate": [["{name}", "--data", "{file}"], ["{file}.onnx", "--data", "{file}"]],
    "robustness": [["{name}", "--data", "{file}"]],
    "explain": [["{name}"], ["{file}"]],
    "blend": [["--model", "{name}"]],
    "export": [["{name}"], ["{file}.ckpt"]],
    "bench": [["--model", "{name}"]],
    "panel": [["{name}"]],
    "sweep": [["--data", "{file}"]],
}


def test_every_verb_is_tried() -> None:
    assert {verb.split()[0] for verb in WORDS} == set(VERBS)


@pytest.mark.parametrize("verb", WORDS)
def test_no_verb_lets_a_name_reach_the_terminal(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / HOSTILE
    try:
        for path in (file, Path(f"{file}.onnx"), Path(f"{file}.ckpt")):
            path.write_bytes(b"no picture, no film, no model")
    except OSError:
        pytest.skip("this file system refuses such names")
    names = {"name": f"no{HOSTILE}", "file": os.fspath(file), "video": os.fspath(file)}
    for words in WORDS[verb]:
        code = main([*verb.split(), *(word.format(**names) for word in words)])
        told = capfd.readouterr()
        assert code in (1, 2), (words, told)
        assert not unseen(told.out + told.err), (words, told)
        assert told.err.startswith("error: "), (words, told)


def test_the_tables_escape_names(
    tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"{HOSTILE}.jpg"
    try:
        Path(name).write_bytes(jpeg)
    except OSError:
        pytest.skip("this file system refuses such names")
    for more in ([], ["--json"], ["--csv", "-"], ["--annotate", f"o{HOSTILE}"]):
        assert main(["predict", name, *more]) == 0
        told = capsys.readouterr()
        assert not unseen(told.out + told.err), more
        assert "a" in told.out
    assert main(["predict", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == name


def test_a_models_words_are_escaped(
    tmp_path: Path, jpeg: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    from helpers_onnx import make_onnx

    from mien.classify import Classifier
    from mien.emotions import FER2013
    from mien.modelinfo import METADATA_KEY, ModelInfo

    photo = tmp_path / "a.jpg"
    photo.write_bytes(jpeg)
    words = dict.fromkeys(("name", "architecture", "recipe", "training_data"), HOSTILE)
    record = json.loads(ModelInfo("tiny", FER2013).to_metadata()[METADATA_KEY]) | words
    model = make_onnx(tmp_path / "m.onnx", metadata={METADATA_KEY: json.dumps(record)})
    info = Classifier(model).info
    assert {getattr(info, name) for name in words} == {printable(HOSTILE)}
    for more in ([], ["--json"], ["--csv", "-"]):
        assert main(["predict", str(photo), "--model", str(model), *more]) == 0
        told = capsys.readouterr()
        assert not unseen(told.out + told.err), more
