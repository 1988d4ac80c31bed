"""Routes that no framework stands in front of: from the socket's bytes to a handler and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sentinel.api.door import Door
from sentinel.api.problems import ProblemRenderer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON: Final = (b"content-type", b"application/json")


@dataclass(frozen=True, kw_only=True)
class RawRoute:
    """A route that takes a POST with a JSON body, and what the documentation says of it.

    Attributes:
        path: Where it is.
        summary, text: What it does, in a line and in more words.
        requests: Structs of which the body is one.
        answer: Struct of the answer.
        statuses: Statuses of the problems that it may answer with.
        handle: Makes the answer from (body, query string).
        parameters: OpenAPI parameters.
        example: A body, for the documentation.
    """

    path: str
    summary: str
    text: str
    requests: tuple[type, ...]
    answer: type
    statuses: tuple[int, ...]
    handle: Callable[[bytes, bytes], Awaitable[bytes]]
    parameters: Sequence[dict[str, Any]] = ()
    example: dict[str, Any] | None = None


class RawRoutes:
    """The ASGI application of raw routes.

    Args:
        routes: What it answers.
        door: Refuses what may not come in.
        problems: Renders errors.

    Attributes:
        by_path: The routes.
    """

    def __init__(self, routes: Sequence[RawRoute], door: Door, problems: ProblemRenderer) -> None:
        self.by_path = {route.path: route for route in routes}
        self._door = door
        self._problems = problems

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose path is one of `by_path`."""
        path: str = scope["path"]
        method: str = scope["method"]
        headers: Sequence[tuple[bytes, bytes]]
        try:
            self._door.check_method(method, path)
            body = await self._door.read_body(path, receive)
            answer = await self.by_path[path].handle(body, scope["query_string"])
            status, headers = 200, (JSON, (b"content-length", b"%d" % len(answer)))
        except Exception as error:  # noqa: BLE001 -- the renderer logs what was not foreseen
            problem = self._problems.render(error, method, path)
            status, headers, answer = problem.status, problem.headers, problem.body
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})
