"""Routes that no framework stands in front of: from the socket's bytes to a handler and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sentinel.access.principals import Principal
from sentinel.api.door import ON_JSON, Door
from sentinel.api.problems import ProblemAnswer, ProblemRenderer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PRINCIPAL: Final = "sentinel.principal"
"""Who makes a request, in its ASGI scope."""
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
        handle: Makes the answer from (body, query string, who calls).
        parameters: OpenAPI parameters.
        example: A body, for the documentation.
    """

    path: str
    summary: str
    text: str
    requests: tuple[type, ...]
    answer: type
    statuses: tuple[int, ...]
    handle: Callable[[bytes, bytes, Principal], Awaitable[bytes]]
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
        try:
            self._door.check_method(method, path)
            body = await self._door.read_body(path, receive)
            handle = self.by_path[path].handle
            answer = await handle(body, scope["query_string"], scope[PRINCIPAL])
        except Exception as error:  # noqa: BLE001 -- the renderer logs what was not foreseen
            await answer_problem(self._problems.render(error, method, path), send)
        else:
            headers = (*ON_JSON, JSON, (b"content-length", b"%d" % len(answer)))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer})


async def answer_problem(problem: ProblemAnswer, send: Send) -> None:
    """Send the answer to a request that failed."""
    headers = (*ON_JSON, *problem.headers)
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": problem.body})
