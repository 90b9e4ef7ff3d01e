"""The HTTP interface: FastAPI over `service.Service`."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from fraud_detection import __version__
from fraud_detection.serving.contract import ContractError
from fraud_detection.serving.metrics import Metrics
from fraud_detection.serving.pages import pages
from fraud_detection.serving.service import NotReadyError, Service
from fraud_detection.storage import Storage

LARGEST_BODY = 16_384
"""Bytes of a request's body."""
SYNC_SECONDS = 0.1
"""Between two times that the journal is brought to the disk."""
_SCORE = "/v1/score"
_Key = StrictStr | StrictInt
_Messages = Callable[[], Awaitable[Any]]


class Transaction(BaseModel):
    """A raw transaction, by the canonical names of the columns; extra columns of the settings by their own."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, StrictStr | StrictBool | StrictInt | StrictFloat | None]

    transaction_id: _Key = Field(examples=["tx-1"])
    transaction_time: StrictStr = Field(description="ISO 8601", examples=["2026-03-01T12:30:00Z"])
    amount: StrictFloat | StrictInt = Field(examples=[123.45])
    customer_id: _Key | None = Field(default=None, description="The card; null or absent: unknown")
    terminal_id: _Key | None = Field(default=None, description="The terminal; null or absent: unknown")


class Scored(BaseModel):
    """What the champion says of a transaction."""

    transaction_id: str
    probability: float
    alert: bool | None = Field(description="Whether the probability reaches the threshold; null if there is none")
    threshold: float | None
    model_version: int
    reasons: list[str] | None = Field(description="Of an alert the inputs that raised its score most, largest first")


def make_app(
    service: Service, token: str | None, poll_seconds: float, model_name: str = "", output: Storage | None = None
) -> FastAPI:
    """The application.

    Args:
        service: what it serves; it is closed when the application ends.
        token: what scores, metrics and pages require; None: nothing.
        poll_seconds: between two looks at the champion's alias, and at the store.
        model_name: of the model whose pages are served.
        output: the output folder, with the dashboard and the reports; None: they are not served.
    """
    app = FastAPI(title="fraud-detection", version=__version__, lifespan=_lifespan(service, poll_seconds))
    app.add_middleware(_BodyLimit)
    app.add_middleware(_Counting, metrics=service.metrics)  # the outermost, so that it sees what others refuse
    app.add_exception_handler(RequestValidationError, _without_values)
    allowed = [Depends(_require(token))]

    @app.post(_SCORE, dependencies=allowed, response_model=Scored, responses=_FAILURES)
    async def score(transaction: Transaction) -> Response:
        """Score a transaction with all that is known of its card and its terminal, and remember it."""
        return _scored(service, transaction)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/ready", responses={503: {"description": "No version is in service"}})
    async def ready() -> JSONResponse:
        """Whether transactions can be scored, and by which version."""
        status = 200 if service.ready else 503
        return JSONResponse({"ready": service.ready, "model_version": service.version}, status)

    @app.get("/metrics", dependencies=allowed, response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Counters and gauges for Prometheus."""
        text = service.metrics.text(service.gauges())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    if output is not None:
        app.include_router(pages(output, model_name, _require(token)))
    return app


_FAILURES: dict[int | str, dict[str, Any]] = {
    401: {"description": "The token is missing or wrong"},
    413: {"description": "The body is too large"},
    422: {"description": "The transaction breaks the data contract"},
    503: {"description": "No version is in service, or the journal cannot be written"},
}


def _scored(service: Service, transaction: Transaction) -> Response:
    try:
        answer = service.score(transaction.model_dump(exclude_unset=True))
    except ContractError as error:
        return _failure(422, str(error))
    except NotReadyError:
        return _failure(503, "no version is in service; next: fraud-detection decisions, which says why")
    except OSError as error:
        return _failure(503, f"the journal cannot be written: {error.strerror}")
    found = answer.score
    content = Scored(
        transaction_id=answer.transaction_id,
        probability=found.probability,
        alert=found.alert,
        threshold=answer.threshold,
        model_version=answer.model_version,
        reasons=found.reasons,
    )
    return Response(content.model_dump_json(), media_type="application/json")


def _failure(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)


async def _without_values(_request: Request, error: Exception) -> JSONResponse:
    """Say which fields are wrong; the framework's own answer repeats their values."""
    found: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    fields = sorted(
        {str(one["loc"][1]) if len(one["loc"]) > 1 and one["type"] != "json_invalid" else "body" for one in found}
    )
    return _failure(
        422,
        f"missing or of the wrong type: {', '.join(fields)}; expected a transaction as in /openapi.json, and the"
        " header Content-Type: application/json",
    )


def _require(token: str | None) -> Callable[[Request], Awaitable[None]]:
    async def require(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "expected the header Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    return require


def _lifespan(service: Service, poll_seconds: float) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(service.follow_champion(poll_seconds)),
            asyncio.create_task(service.follow_store(poll_seconds)),
            asyncio.create_task(service.sync_journal(SYNC_SECONDS)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            service.close()

    return lifespan


class _Counting:
    """Counts each answer to a request for a score, whatever gives it, and its time since the body was there."""

    def __init__(self, app: Callable[..., Awaitable[None]], metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Any, receive: _Messages, send: Callable[[Any], Awaitable[None]]) -> None:  # noqa: ANN401
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", _SCORE):
            await self._app(scope, receive, send)
            return
        began, status = perf_counter(), None

        async def receive_part() -> Any:  # noqa: ANN401
            nonlocal began
            message = await receive()
            began = perf_counter()  # a slow client is not counted
            return message

        async def send_part(message: Any) -> None:  # noqa: ANN401
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive_part, send_part)
        except Exception:
            status = status or 500  # the framework answers after this
            raise
        finally:
            if status is not None:  # None: the client has gone
                self._metrics.observe(status, perf_counter() - began)


class _BodyLimit:
    """Refuses a body that is too large, also where it does not say its length."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: _Messages, send: Callable[[Any], Awaitable[None]]) -> None:  # noqa: ANN401
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > LARGEST_BODY:
                response = _failure(413, f"the body is larger than {LARGEST_BODY:,} bytes")
                await response(scope, receive, send)
                return
            if message["type"] == "http.disconnect":
                return
            if not message.get("more_body", False):
                break
        parts = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Any:  # noqa: ANN401
            return next(parts, None) or await receive()

        await self._app(scope, replay, send)
