"""A line for each of a share of the requests, when they are answered."""

from __future__ import annotations

import logging

from sentinel.access.principals import Principal
from sentinel.telemetry.context import bound
from sentinel.telemetry.sampling import is_sampled

log = logging.getLogger(__name__)


class RequestLog:
    """Writes the lines.

    Args:
        share: Of the requests, 0 to 1.
    """

    def __init__(self, share: float) -> None:
        self._share = share

    def answered(
        self,
        request_id: str,
        method: str,
        route: str,
        status: int,
        seconds: float,
        principal: Principal | None,
    ) -> None:
        """Tell of a request, if it is among the share.

        Args:
            request_id: Its id.
            method, route: What was asked for, as the API declares it: paths may hold ids.
            status: Of the answer.
            seconds: From its arrival to its answer.
            principal: Who asked; None if nobody knows.
        """
        if not is_sampled(request_id, self._share):
            return
        with bound(request_id=request_id):
            log.info(
                "Answered.",
                extra={
                    "method": method,
                    "route": route,
                    "status": status,
                    "duration_us": round(seconds * 1e6),
                    "caller": principal.key_id if principal is not None else "",
                },
            )


def request_log(share: float) -> RequestLog | None:
    """The log of requests; None where no requests are told of."""
    return RequestLog(share) if share > 0 else None
