"""A line for each of a share of the requests, when they are answered."""

from __future__ import annotations

import logging

from sentinel.access.principals import Principal
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.telemetry.context import bound
from sentinel.telemetry.guarded import said_once
from sentinel.telemetry.sampling import is_sampled

log = logging.getLogger(__name__)


class RequestLog:
    """Writes the lines. Where one cannot be written, the request is answered all the same.

    Args:
        share: Of the requests, 0 to 1.
        metrics: Counts failures.
    """

    def __init__(self, share: float, metrics: ScoringMetrics) -> None:
        self._share = share
        self._metrics = metrics
        self._failing = False

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
        try:
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
        except Exception as error:  # noqa: BLE001 -- the answer goes out whatever happens here
            self._metrics.telemetry_failures += 1
            self._failing = said_once(log, "A request", error, said=self._failing)
        else:
            self._failing = False


def request_log(share: float, metrics: ScoringMetrics) -> RequestLog | None:
    """The log of requests; None where no requests are told of."""
    return RequestLog(share, metrics) if share > 0 else None
