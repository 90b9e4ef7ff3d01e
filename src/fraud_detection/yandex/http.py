"""HTTP to the cloud's services. A redirect is an error: its target would be sent the request's token."""

import urllib.request
from http.client import HTTPMessage
from typing import IO


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """urllib repeats a redirected request with all of its headers, whatever host the response names."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: HTTPMessage,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        """Follow none: urllib then raises the response as an HTTPError."""
        return


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """An opener that follows no redirect."""
    return urllib.request.build_opener(_RefuseRedirects, *handlers)
