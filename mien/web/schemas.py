"""The OpenAPI schemas: what :meth:`mien.Result.to_dict` and the server's own documents look like.

They describe; answers are built from the dataclasses themselves. A test holds the two together.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mien.emotions import FER2013, Emotion, Label
from mien.results import Box, Face, Result


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Options(_Strict):
    """Query of ``POST /v1/predict``."""

    faces: bool = Field(False, description="Each image already is one face: detect nothing.")
    min_confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Leave out faces whose most probable expression is less sure than this.",
    )


class BoxSchema(_Strict):
    """Pixels of the upright image; may reach over its edge."""

    x: float
    y: float
    width: float
    height: float


class FaceSchema(_Strict):
    """One face with its expression."""

    emotion: Label
    confidence: float = Field(ge=0, le=1)
    probabilities: dict[Label, float]
    blend: tuple[Label, Label] | None = Field(
        None, description="The two leading expressions where neither dominates."
    )
    box: BoxSchema
    landmarks: list[tuple[float, float]]
    detection_score: float | None
    unsure: bool = Field(False, description="The answer should not be used.")
    quality: float | None = Field(None, ge=0, le=1, description="The product of its parts.")
    quality_parts: dict[str, float] | None = Field(
        None, description="Size, sharpness, exposure, pose, whole, detection: 0 bad to 1 good."
    )
    roll: float | None = Field(None, description="Degrees, clockwise.")
    yaw: float | None = Field(None, description="Degrees, to the viewer's right; rough.")
    pitch: float | None = Field(None, description="Degrees, down; rough.")
    track: int | None = Field(None, description="In a stream: the same face, the same number.")
    smoothed: dict[Label, float] | None = Field(None, description="Averaged over time.")
    steady: Label | None = Field(None, description="The name of the smoothed expression.")


class ResultSchema(_Strict):
    """``mien.Result``: all faces of one image, largest first."""

    source: str | None
    width: int
    height: int
    model: str
    model_sha256: str
    mien_version: str
    detector: str
    faces: list[FaceSchema]


class ErrorSchema(_Strict):
    """An image that could not be read."""

    index: int = Field(description="Its place in the request, from 0.")
    source: str | None
    detail: str


class PredictSchema(_Strict):
    """One entry an image, in the order sent; null where ``errors`` says why."""

    results: list[ResultSchema | None]
    errors: list[ErrorSchema]


class ProblemSchema(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class ModelSchema(_Strict):
    """A model that ships with mien, or the one that is loaded."""

    name: str
    loaded: bool
    description: str
    sha256: str
    labels: list[Label]
    input_size: int
    precision: str
    parameters: int
    training_data: str
    licence: str
    scores: dict[str, Any]


class ModelsSchema(_Strict):
    """``GET /v1/models``."""

    models: list[ModelSchema]
    detector: str
    limits: dict[str, float]


class HealthSchema(_Strict):
    """``GET /healthz``."""

    status: str
    version: str
    model: str


def example_result() -> Result:
    """A result to show in the documentation."""
    rest: dict[Label, float] = dict.fromkeys(FER2013, 0.01)
    face = Face(
        box=Box(184.0, 63.5, 92.0, 118.0),
        probabilities={**rest, Emotion.HAPPY: 0.94},
        detection_score=0.93,
        landmarks=((206.0, 108.0), (249.0, 107.0), (229.0, 132.0), (211.0, 150.0), (247.0, 149.0)),
    )
    return Result((face,), 512, 512, "photo.jpg", "mien_distilled", "yunet")


def example_predict() -> dict[str, Any]:
    """An answer with one image read and one refused."""
    detail = "notes.txt is not an image that mien reads (JPEG, PNG, …)."
    return {
        "results": [example_result().to_dict(), None],
        "errors": [{"index": 1, "source": "notes.txt", "detail": detail}],
    }


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for problem documents of these statuses."""
    texts = {
        400: "The body is damaged.",
        401: "A token is wanted.",
        403: "The page's origin is not allowed.",
        408: "The body did not come in time.",
        413: "Too many bytes or images.",
        415: "Another content type than images.",
        421: "The server answers to another name.",
        422: "No image could be read, or an option is wrong.",
        431: "The request's head is too large.",
        503: "Busy; see Retry-After.",
    }
    schema = {"$ref": "#/components/schemas/ProblemSchema"}
    return {
        status: {
            "description": texts[status],
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in statuses
    }
