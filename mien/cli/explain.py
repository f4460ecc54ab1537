"""``mien explain PHOTO``: which parts of a face an answer rests on, as an image."""

from __future__ import annotations

import json
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien import zoo
from mien.cli._console import say, say_found, wrote
from mien.cli._image import check_name, write_image
from mien.cli._options import MODEL_HELP, Detector, Faces, Json, argument, load_model, option
from mien.errors import DataError, ImageError, ModelError, OutputError
from mien.sources import STDIN, real_path

if TYPE_CHECKING:
    pass


def explain(
    photo: Annotated[str | None, argument("An image, or - for one on standard input.")] = None,
    model: Annotated[str | None, option(MODEL_HELP)] = None,
    method: Annotated[str, option("occlusion (any model) or gradcam (a .ckpt).")] = "occlusion",
    output: Annotated[
        Path | None,
        option("The image to write; without: PHOTO-explained.png, here.", "--output", "-o"),
    ] = None,
    top: Annotated[int, option("Classes explained per face.", min=1, max=8)] = 2,
    patch: Annotated[int, option("Side of the covering patch, pixels.", min=1)] = 15,
    stride: Annotated[int, option("The patch's step, pixels.", min=1)] = 3,
    detector: Detector = "yunet",
    faces: Faces = False,
    as_json: Json = False,
    data: Annotated[
        Path | None, option("Instead of a photo: a dataset, for each class's mean map.")
    ] = None,
    split: Annotated[str, option("Of --data.")] = "val",
    per_class: Annotated[int, option("Faces per class, with --data.", min=1)] = 100,
) -> None:
    """Draw what an answer rests on: maps over each face, or a dataset's mean maps."""
    if (photo is None) == (data is None):
        raise DataError("Give either a PHOTO or --data DATASET to explain.")
    if output is None and not as_json:
        output = _free_name("mean" if photo is None else Path(photo).stem if photo != "-" else "")
    if output is not None:
        check_name(output)
        if photo is not None and real_path(output) == real_path(photo):
            raise OutputError(f"{output} is the image to be read; choose another name.")
    classifier = load_model(model or zoo.DEFAULT)
    if data is not None:
        if method != "occlusion":
            raise ModelError("Mean maps are made by occlusion; leave --method out.")
        image, record = _mean(classifier, data, split, per_class, patch, stride)
    else:
        options = {"method": method, "top": top, "patch": patch, "stride": stride}
        found = None if faces or detector == "none" else detector
        image, record = _photo(classifier, str(photo), found, options)
    if output is not None:
        write_image(output, image)
        wrote(output)
    if as_json:
        typer.echo(json.dumps({"model": classifier.info.name, **record}, allow_nan=False))


def _free_name(stem: str) -> Path:
    """A name in the working folder that no file has yet."""
    names = (f"{stem or 'image'}-explained{n and f'-{n}'}.png" for n in chain([""], count(2)))
    return next(path for path in map(Path, names) if not path.exists())


def _photo(
    classifier: Any, photo: str, detector: str | None, options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    from mien.detect import load_detector
    from mien.explain import explain_photo
    from mien.explain.paint import is_pale, paint
    from mien.images import frames_of
    from mien.pipeline import first_frames

    name = "standard input" if photo == STDIN else photo
    finder = None if detector is None else load_detector(detector)
    for frame in first_frames(frames_of(photo, name=name)):
        if explained := explain_photo(frame.image, classifier, finder, **options):
            break
    else:
        raise ImageError(
            f"{name} shows no face that {detector} finds; if it is one face alone, add --faces."
        )
    pale = sum(is_pale(e) for e in explained)
    if pale:
        say(
            f"note: a patch of {options['patch']} pixels changes the answers by 0.05 at most for "
            f"{pale} of {len(explained)} face(s); a larger --patch hides more."
        )
    record: dict[str, Any] = {"source": name, "faces": [e.to_dict() for e in explained]}
    if frame.number is not None:
        record["frame"] = frame.number
    return paint(frame.image, explained), record


def _mean(
    classifier: Any, data: Path, split: str, per_class: int, patch: int, stride: int
) -> tuple[Any, dict[str, Any]]:
    from mien.evaluate.runner import resolved
    from mien.evaluate.samples import samples_of
    from mien.explain import mean_maps
    from mien.explain.paint import paint_mean

    samples = samples_of(classifier, data, None, split)
    say_found(samples.findings)
    call, classes = resolved(classifier)
    how = {"patch": patch, "stride": stride}
    found = mean_maps(
        call,
        samples.chosen,
        classes,
        per_class=per_class,
        on_class=lambda emotion, count: say(f"{emotion}: {count} faces"),
        **how,
    )
    return paint_mean(found), {"split": samples.split, **how, **found.to_dict()}
