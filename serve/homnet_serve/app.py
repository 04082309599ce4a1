"""HTTP routes, statuses and limits of an endpoint: a plain ASGI application without Ray.

:func:`create_app` builds a FastAPI application around a :class:`homnet_serve.service.Service`. Any
ASGI server can run it; :mod:`homnet_serve.deployment` runs it in a Ray Serve replica.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from homnet import __version__
from homnet.cohorts.pairs import MEASURED
from homnet.imaging.cells import BY_NAME
from homnet.imaging.cutting import PX_PER_UM_RANGE
from homnet.karyotype.chromosomes import BAND_LEVELS
from homnet_serve.answers import Wanted
from homnet_serve.archives import ZIP_TYPE
from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE
from homnet_serve.docs_page import POLICY, documentation
from homnet_serve.errors import RequestError
from homnet_serve.forms import FORM_TYPE
from homnet_serve.karyogram_zips import CELLS, CORRECTIONS, LAYOUT
from homnet_serve.keys import Key, check_key
from homnet_serve.middleware import Around
from homnet_serve.page import page
from homnet_serve.schemas import (
    NOTICE,
    Corrections,
    DiagnoseRequest,
    DiagnoseResponse,
    ErrorBody,
    Health,
    KaryogramsResponse,
    ModelsResponse,
)
from homnet_serve.service import Answer, Asked, Service
from homnet_serve.transport import answered, body_of

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": ErrorBody, "description": "No valid key."},
    403: {"model": ErrorBody, "description": "The key is not for this."},
    404: {"model": ErrorBody, "description": "No model answers for the hospital."},
    408: {"model": ErrorBody, "description": "The body did not arrive in time."},
    413: {"model": ErrorBody, "description": "Over a limit."},
    415: {"model": ErrorBody, "description": "Another media type."},
    422: {"model": ErrorBody, "description": "The body or a parameter is wrong."},
    429: {"model": ErrorBody, "description": "The key uses its share; see Retry-After."},
    503: {
        "model": ErrorBody,
        "description": "No room now, or this replica cannot compute; see Retry-After.",
    },
    504: {"model": ErrorBody, "description": "Not done before the deadline."},
}
_COLUMNS: Final = ", ".join(f"{field.name} {field.type}" for field in MEASURED)
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_FILES: Final = {
    "schema": {
        "type": "object",
        "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
    }
}
_PAIRS_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": f"JSON, or an Arrow IPC stream with one row per pair: {_COLUMNS}.",
        "content": {
            JSON_TYPE: {"schema": {"$ref": "#/components/schemas/DiagnoseRequest"}},
            ARROW_TYPE: _BINARY,
        },
    }
}
_ZIP_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "A zip with manifest.csv (path, patient_id, cell_id, chromosome, homolog; "
        "optional hospital, band_level) and one image per chromosome, dark on white, p-arm up.",
        "content": {ZIP_TYPE: _BINARY},
    }
}
_KARYOGRAMS_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "A zip, or the files of a form: a picture of each cell's karyogram, dark on "
        f"white, and perhaps {LAYOUT} (types of each row from left to right), and, for verdicts, "
        f"{CELLS} (path, patient_id, cell_id; optional hospital, band_level) and {CORRECTIONS} "
        "(Corrections).",
        "content": {ZIP_TYPE: _BINARY, FORM_TYPE: _FILES},
    }
}
_Sequences = Annotated[
    Wanted,
    Query(description="Types whose sequences the answer repeats, so that they can be drawn."),
]
_Pages = Annotated[
    Wanted,
    Query(
        description="Patients whose report is added as an HTML page; flagged: all but those in "
        "whom no abnormality was found. Over the endpoint's limit, those of the most urgent ones."
    ),
]
_Hospital = Annotated[
    str, Query(max_length=128, description="Hospital of what is listed without one, or not listed.")
]
_PatientId = Annotated[
    str,
    Query(
        max_length=128,
        description="Pseudonym of the patient, if all pictures are of one; cells are then called "
        f"as the files. Without it, and without {CELLS}, the names of the files are {BY_NAME}.",
    ),
]
_PxPerUm = Annotated[
    float | None,
    Query(
        ge=PX_PER_UM_RANGE[0],
        le=PX_PER_UM_RANGE[1],
        description="Pixels of the pictures per micrometre; by default what the scale bar or the "
        "file of each says, or else estimated from its chromosomes.",
    ),
]
_Preview = Annotated[
    bool, Query(description="Whether the answer includes the pictures, in grey and made smaller.")
]
_BandLevel = Annotated[
    str | None,
    Query(
        pattern=f"^({'|'.join(map(str, BAND_LEVELS))})$",
        description="Band level of cells for which none is stated; by default it is estimated from "
        "their chromosomes.",
    ),
]
_Scale = Annotated[
    float | None,
    Query(
        ge=0.1,
        le=30,
        description="Samples per image pixel: that of the hospital's cohort. Images are measured, "
        "and pages drawn, at this scale.",
    ),
]


def _wished_of(
    sequences: _Sequences = "none", pages: _Pages = "none", samples_per_px: _Scale = None
) -> Mapping[str, Any]:
    """What a request for verdicts wishes to have in its answer, and the scale."""
    return {"sequences": sequences, "pages": pages, "samples_per_px": samples_per_px}


_Wished = Annotated[Mapping[str, Any], Depends(_wished_of)]


def create_app(service: Service) -> FastAPI:
    """Returns the application around a service; its lifespan starts and closes the service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="HomNet",
        version=__version__,
        description=NOTICE,
        lifespan=lifespan,
        # FastAPI's documentation pages load scripts from other servers; /docs is our own. The
        # schema itself is at /openapi.json and requires a key.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # A redirect would go wherever the Host header says.
        redirect_slashes=False,
    )
    app.add_middleware(Around, metrics=service.metrics)
    _answer_errors(app, service)
    _add_open_routes(app, service)
    _add_routes(app, service)
    return app


def _add_open_routes(app: FastAPI, service: Service) -> None:
    @app.get("/", include_in_schema=False)
    async def web_page() -> Response:
        html, policy = page()
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": policy})

    @cache
    def docs() -> str:
        return documentation(schema_of(app))

    @app.get("/docs", include_in_schema=False)
    async def docs_page() -> Response:
        html = docs()
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    @app.get("/healthz", response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> Response:
        """Whether the background tasks of this process run."""
        return _health(service.alive)

    @app.get("/readyz", response_model=Health, responses={503: {"model": Health}})
    async def readyz() -> Response:
        """Whether requests can be answered."""
        return _health(service.ready)


def _health(good: bool) -> Response:
    return JSONResponse({"status": "ok" if good else "starting"}, 200 if good else 503)


def _add_routes(app: FastAPI, service: Service) -> None:
    bearer = HTTPBearer(auto_error=False, description="An API key of this endpoint.")

    async def key_of(request: Request, _: Annotated[Any, Depends(bearer)]) -> Key:
        key = check_key(service.keys, request.headers.get("authorization"))
        request.state.log["key"] = key.id
        return key

    own_key = Annotated[Key, Depends(key_of)]

    async def answer(
        request: Request,
        key: Key,
        work: Callable[[Asked], Awaitable[Answer]],
        **wished: Any,
    ) -> Response:
        async with body_of(request, service, key) as body:
            asked = Asked(
                key=key,
                request_id=request.state.request_id,
                caller_request_id=request.state.caller_request_id,
                route=request.scope["route"].path,
                body=body,
                content_type=request.headers.get("content-type", ""),
                **wished,
            )
            return await answered(request, service, work(asked))

    @app.post(
        "/v1/diagnose",
        response_model=DiagnoseResponse,
        responses=_ERRORS,
        openapi_extra=_PAIRS_BODY,
    )
    async def diagnose(request: Request, key: own_key, wished: _Wished) -> Response:
        """Gives a verdict on each patient from the sequences of homologous pairs."""
        return await answer(request, key, service.diagnose, **wished)

    @app.post(
        "/v1/diagnose/images",
        response_model=DiagnoseResponse,
        responses=_ERRORS,
        openapi_extra=_ZIP_BODY,
    )
    async def diagnose_images(
        request: Request,
        key: own_key,
        wished: _Wished,
        hospital: _Hospital = "",
        band_level: _BandLevel = None,
    ) -> Response:
        """Gives a verdict on each patient from images of the chromosomes."""
        _check_type(request, ZIP_TYPE)
        level = None if band_level is None else int(band_level)
        work = partial(service.diagnose_images, hospital=hospital, band_level=level)
        return await answer(request, key, work, **wished)

    @app.post(
        "/v1/karyograms",
        response_model=KaryogramsResponse,
        responses={status: said for status, said in _ERRORS.items() if status != 404},
        openapi_extra=_KARYOGRAMS_BODY,
    )
    async def karyograms(request: Request, key: own_key, preview: _Preview = False) -> Response:
        """Finds the chromosomes on karyograms and says the type of each, for people to check."""
        _check_type(request, ZIP_TYPE, FORM_TYPE)
        return await answer(request, key, partial(service.read_karyograms, preview=preview))

    @app.post(
        "/v1/diagnose/karyograms",
        response_model=DiagnoseResponse,
        responses=_ERRORS,
        openapi_extra=_KARYOGRAMS_BODY,
    )
    async def diagnose_karyograms(
        request: Request,
        key: own_key,
        wished: _Wished,
        hospital: _Hospital = "",
        patient_id: _PatientId = "",
        band_level: _BandLevel = None,
        px_per_um: _PxPerUm = None,
    ) -> Response:
        """Gives a verdict on each patient from karyograms, perhaps corrected by a person."""
        _check_type(request, ZIP_TYPE, FORM_TYPE)
        work = partial(
            service.diagnose_karyograms,
            hospital=hospital,
            patient_id=patient_id,
            band_level=None if band_level is None else int(band_level),
            px_per_um=px_per_um,
        )
        return await answer(request, key, work, **wished)

    @app.get("/v1/models", responses={401: _ERRORS[401]})
    async def models(key: own_key) -> ModelsResponse:
        """The models that serve the hospitals of the key."""
        return ModelsResponse(models=await service.models(key))

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(key: own_key) -> JSONResponse:
        return JSONResponse(schema_of(app))


def _check_type(request: Request, *read: str) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in read:
        raise RequestError(415, "unknown_media_type", f"Content-Type: send {' or '.join(read)}")


def schema_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI schema, including the schemas of what the routes parse themselves."""
    schema = app.openapi()
    components = schema["components"]["schemas"]
    for model in (DiagnoseRequest, Corrections):
        own = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components.update(own.pop("$defs", {}))
        components[model.__name__] = own
    return schema


def _answer_errors(app: FastAPI, service: Service) -> None:
    def answer(request: Request, error: RequestError) -> JSONResponse:
        request.state.log["code"] = error.code
        service.metrics.refused.inc(tags={"code": error.code})
        headers = {}
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(error.retry_after_s)
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        body = ErrorBody(
            request_id=request.state.request_id,
            caller_request_id=request.state.caller_request_id,
            code=error.code,
            message=str(error),
        )
        return JSONResponse(body.model_dump(), error.status, headers)

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def wrong_parameter(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = first["loc"][-1]
        return answer(
            request, RequestError(422, "invalid_parameter", f"parameter '{name}': {first['msg']}")
        )

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail} here; /docs lists the routes, none of which ends in a slash"
        response = answer(request, RequestError(error.status_code, "no_route", message))
        response.headers.update(error.headers or {})
        return response
