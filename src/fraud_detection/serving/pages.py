"""The dashboard of the model and the reports that it links to, from the output folder."""

import re
from collections.abc import Callable

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from fraud_detection.outputs import dashboard_file, reports_folder
from fraud_detection.storage import Storage

DASHBOARD = "/dashboard"
_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


def pages(storage: Storage, model_name: str, require: Callable[..., object]) -> APIRouter:
    """Routes of the pages. Their paths are those of the files, so that the links between them hold.

    Args:
        storage: the output folder; nothing else of it is served.
        model_name: of the model.
        require: a dependency that refuses a request without the token.
    """
    router = APIRouter(dependencies=[Depends(require)], default_response_class=HTMLResponse)
    dashboard = dashboard_file(model_name)
    report = re.compile(re.escape(reports_folder(model_name)) + r"\d{8}T\d{6}Z/report\.html")

    @router.get(DASHBOARD)
    async def to_dashboard() -> Response:
        """Redirect to the page of the model."""
        return RedirectResponse(f"/{dashboard}")

    # Without `async`: these read a file, and a score does not wait for that.
    @router.get("/dashboards/{name:path}")
    @router.get("/reports/{name:path}")
    def page(request: Request) -> Response:
        """The dashboard, or a report."""
        name = request.url.path.removeprefix("/")
        known = name == dashboard or report.fullmatch(name)
        content = storage.read(name) if known else None
        if content is None:
            raise HTTPException(404, "no such page; the dashboard is at /dashboard once a run has made it")
        return HTMLResponse(content, headers=_HEADERS)

    return router
