"""Parameters of a query that no route has: a misspelt filter would let everything pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fastapi import Request
from fastapi.dependencies.models import Dependant

from sentinel.api.problems import invalid, not_a_parameter
from sentinel.ingest.names import shown_name

_MOST_NAMED: Final = 20


async def only_known_parameters(request: Request) -> None:
    """Refuse a request with a parameter that its route does not have.

    A route that reads no parameters takes any: probes add some to pass caches by.

    Raises:
        InvalidTransaction: Naming each such parameter, the nearest that there is, and all others.
    """
    if not request.query_params:
        return
    dependant = getattr(request.scope.get("route"), "dependant", None)
    known = [] if dependant is None else list(dict.fromkeys(_names(dependant)))
    if not known:
        return
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        raise invalid(
            {shown_name(name): not_a_parameter(name, known) for name in unknown[:_MOST_NAMED]}
        )


def _names(dependant: Dependant) -> Iterator[str]:
    """Names of the parameters that a route reads from the query, as clients write them."""
    for parameter in dependant.query_params:
        yield parameter.alias
    for inner in dependant.dependencies:
        yield from _names(inner)
