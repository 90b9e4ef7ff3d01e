"""The cloud's SDK with canned replies: what a check says of each of them."""

from types import SimpleNamespace
from typing import Any

import grpc


class Refusal(grpc.RpcError):
    """A call that the cloud refuses."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "as the test wants it"


class FakeSdk:
    """Replies by method; an exception is raised. `asked` are the requests."""

    def __init__(self, **replies: object) -> None:
        self._replies = replies
        self.asked: list[object] = []

    def client(self, _stub: object) -> Any:
        return SimpleNamespace(**{name: self._method(reply) for name, reply in self._replies.items()})

    def _method(self, reply: object) -> Any:
        def answer(request: object, **_: object) -> object:
            self.asked.append(request)
            if isinstance(reply, Exception):
                raise reply
            return reply

        return answer
