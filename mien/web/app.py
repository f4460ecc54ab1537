"""The application: four routes of REST, one WebSocket and the page."""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from mien import zoo
from mien._system import file_sha256
from mien._version import __version__
from mien.classify import Classifier
from mien.detect import VIDEO_MIN_FACE, load_detector
from mien.errors import MienError
from mien.modelinfo import ModelInfo
from mien.onnxfile.runtime import Provider
from mien.pipeline import Analyzer
from mien.web import metrics as exposition
from mien.web import schemas
from mien.web.guard import Guard
from mien.web.metrics import Metrics
from mien.web.page import add_page
from mien.web.problems import NO_STORE, Problem
from mien.web.settings import Settings
from mien.web.stream import serve_stream
from mien.web.uploads import read_uploads
from mien.web.work import Analyzers, Workers

logger = logging.getLogger("mien.web")

_ABOUT = (
    "Finds faces in images and names their expressions. Nothing that is sent is kept. "
    "An expression is not a feeling: do not use it to judge people."
)

#: Answers that any route may give; the door (``mien.web.guard``) gives them.
_DOOR = (401, 403, 421, 431, 503)


def create_app(
    settings: Settings | None = None,
    *,
    model: str | Path = zoo.DEFAULT,
    detector: str = "yunet",
    min_face: float | None = None,
    providers: str | Sequence[Provider] = "cpu",
    prior: str | None = None,
) -> FastAPI:
    """Build the application. The models are loaded now.

    Args:
        settings: who may call and how much; :class:`Settings` by default.
        model, detector, providers, prior: as for :class:`mien.Analyzer`.
        min_face: the same, for photos and live frames; None looks at photos as closely as is cheap,
            and at frames for ``VIDEO_MIN_FACE``.

    Raises:
        ModelError: unknown or unusable model or detector.
    """
    settings = settings or Settings()

    def make() -> Analyzers:
        photo = Analyzer(
            model, detector, min_face=min_face, threads=1, providers=providers, prior=prior
        )
        video = copy.copy(photo)  # one classifier serves both
        video.detector = load_detector(detector, min_face or VIDEO_MIN_FACE, turns=False)
        return Analyzers(photo, video)

    workers = Workers(make, settings.workers)
    metrics = Metrics(__version__, workers.info.name)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        workers.close()

    app = FastAPI(
        title="mien",
        version=__version__,
        description=_ABOUT,
        license_info={"name": f"Code: Apache-2.0. Weights: {workers.info.licence or 'not stated'}"},
        lifespan=lifespan,
        docs_url=None,  # its pages load scripts from other servers
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.workers, app.state.metrics, app.state.settings = workers, metrics, settings
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    _add_problems(app)
    _describe(app, guarded=settings.token is not None)
    _add_predict(app, workers, metrics, settings)
    _add_facts(app, workers, metrics, settings)
    add_page(app, workers.info.labels)

    @app.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        await serve_stream(websocket, workers, metrics, settings)

    return app


def _add_problems(app: FastAPI) -> None:
    """Whatever goes wrong below the door becomes a problem document."""

    def answer(problem: Problem) -> Response:
        response = Response(problem.body(), problem.status, media_type=None)
        response.raw_headers = problem.asgi_headers()
        return response

    @app.exception_handler(HTTPException)
    async def known(_: Request, error: Any) -> Response:
        texts = {
            404: "There is nothing under this address; /openapi.json lists what there is.",
            405: "This address does not take this method; /openapi.json lists what it takes.",
        }
        detail = texts.get(error.status_code, str(error.detail))
        return answer(Problem(error.status_code, detail, headers=error.headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Any) -> Response:
        first = error.errors()[0]
        place = str(first["loc"][-1]) if first["loc"] else "the query"
        allowed = ", ".join(schemas.Options.model_fields)
        if first["type"] == "extra_forbidden":
            return answer(Problem(422, f"Unknown option {place[:60]!r}; known: {allowed}."))
        return answer(Problem(422, f"The option {place[:60]!r}: {first['msg']}."))


def _describe(app: FastAPI, guarded: bool) -> None:
    """Add to the OpenAPI description what FastAPI does not know: problems, and the token."""
    plain = app.openapi

    def with_problem_schema() -> dict[str, Any]:
        document = plain()
        components = document.setdefault("components", {})
        problem = schemas.ProblemSchema.model_json_schema()
        components.setdefault("schemas", {})["ProblemSchema"] = problem
        if guarded:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for operations in document["paths"].values():
                for operation in operations.values():
                    if "401" in operation["responses"]:
                        operation["security"] = [{"token": []}]
        return document

    app.openapi = with_problem_schema  # type: ignore[method-assign]


def _image_body(most: int) -> dict[str, Any]:
    """The request body in OpenAPI: files of a form, or one image's bytes."""
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": {"images": {"type": "array", "items": binary, "maxItems": most}},
        "required": ["images"],
    }
    kinds = ("image/jpeg", "image/png", "image/webp", "application/octet-stream")
    content: dict[str, Any] = {kind: {"schema": binary} for kind in kinds}
    return {"required": True, "content": {"multipart/form-data": {"schema": form}, **content}}


def _add_predict(app: FastAPI, workers: Workers, metrics: Metrics, settings: Settings) -> None:
    limits = settings.limits

    @app.post(
        "/v1/predict",
        summary="Find the faces of one or many images",
        description=(
            "Send one image as the body (`curl -H 'Content-Type: image/jpeg' "
            "--data-binary @photo.jpg`) or many as the files of a form (`curl -F images=@a.jpg "
            "-F images=@b.png`). No path and no URL is ever read for a client."
        ),
        response_model=schemas.PredictSchema,
        responses={
            200: {"content": {"application/json": {"example": schemas.example_predict()}}},
            **schemas.problem_responses(400, 408, 413, 415, 422, *_DOOR),
        },
        openapi_extra={"requestBody": _image_body(limits.images)},
    )
    async def predict(request: Request, options: Annotated[schemas.Options, Query()]) -> Response:
        uploads = await read_uploads(request, limits)
        outcomes = await workers.look(
            uploads,
            faces=options.faces,
            min_confidence=options.min_confidence,
            pixels=limits.pixels,
        )
        errors = []
        for index, (upload, outcome) in enumerate(zip(uploads, outcomes, strict=True)):
            metrics.analysis_seconds.observe(outcome.seconds)
            metrics.images.labels("read" if outcome.result else "refused").inc()
            if outcome.result is None:
                errors.append({"index": index, "source": upload.name, "detail": outcome.error})
            else:
                metrics.faces.inc(len(outcome.result.faces))
        if len(errors) == len(uploads):
            more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
            raise Problem(422, f"{errors[0]['detail']}{more}", errors=errors)
        results = [outcome.result and outcome.result.to_dict() for outcome in outcomes]
        return JSONResponse({"results": results, "errors": errors}, headers=NO_STORE)


def _add_facts(app: FastAPI, workers: Workers, metrics: Metrics, settings: Settings) -> None:
    # Now, for it reads and loads files, which would hold up every other request.
    known = known_models(workers.info, workers.model)

    @app.head("/v1/models", include_in_schema=False)
    @app.get(
        "/v1/models",
        summary="The models, and the limits of this server",
        response_model=schemas.ModelsSchema,
        responses=schemas.problem_responses(*_DOOR),
    )
    async def models() -> Response:
        limits = {name: getattr(settings.limits, name) for name in settings.limits.__slots__}
        answer = {"models": known, "detector": workers.detector, "limits": limits}
        return JSONResponse(answer, headers=NO_STORE)

    @app.head("/healthz", include_in_schema=False)
    @app.get(
        "/healthz",
        summary="Whether the server answers",
        response_model=schemas.HealthSchema,
        responses=schemas.problem_responses(403, 421, 431),
    )
    async def health() -> Response:
        answer = {"status": "ok", "version": __version__, "model": workers.info.name}
        return JSONResponse(answer, headers=NO_STORE)

    @app.head("/metrics", include_in_schema=False)
    @app.get(
        "/metrics",
        summary="Counters in Prometheus' text format",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"example": "mien_faces_total 3"}}},
            **schemas.problem_responses(*_DOOR),
        },
    )
    async def prometheus() -> Response:
        return Response(metrics.render(), media_type=exposition.MEDIA_TYPE)


def known_models(loaded: ModelInfo, path: Path) -> list[dict[str, Any]]:
    """The loaded model and every other that ships, as :class:`schemas.ModelSchema` says.

    What ships is known by its hash: anybody's own export may have the same name. A shipped file
    that is damaged is left out, and the log says so. ``path`` is the loaded model's file.
    """
    out, own = [], file_sha256(path)
    for name, entry in zoo.MODELS.items():
        is_loaded = entry.sha256 == own
        try:
            info = loaded if is_loaded else Classifier(zoo.model_path(name), 1).info
        except MienError as error:
            logger.warning("%s", error)
            continue
        out.append(_model(info, is_loaded, entry.description, entry.sha256))
    if any(model["loaded"] for model in out):
        return out
    return [_model(loaded, True, "", own), *out]


def _model(info: ModelInfo, loaded: bool, description: str, sha256: str) -> dict[str, Any]:
    facts = ("name", "input_size", "precision", "parameters", "training_data", "licence")
    return {
        **{key: getattr(info, key) for key in facts},
        "loaded": loaded,
        "description": description,
        "sha256": sha256,
        "labels": [label.value for label in info.labels],
        "scores": dict(info.scores),
    }
