"""What all connections of a process share."""

from __future__ import annotations

from sentinel.access.limits import Rates
from sentinel.api.answers import Answers
from sentinel.api.connections import Connections
from sentinel.api.door import Door
from sentinel.api.payment_heads import PaymentHeads
from sentinel.api.problems import ProblemRenderer
from sentinel.api.request_log import RequestLog
from sentinel.api.routes.payments import Intake
from sentinel.telemetry.request_ids import RequestIds


class FastPath:
    """What all connections share: the intake, the door, the heads seen so far, how to answer.

    Args:
        intake: Takes payments.
        door: Refuses what may not come in.
        problems: Renders errors.
        connections: Counts and watches them.
        rates: How much each caller may send.
        counts: Answers by path, counted here.
        admin_port: Where no payments come in; 0 = there is no such port.
        request_ids: Makes ids for requests that came without one; default: a new maker.
        requests: Told of requests that are answered; None if nobody is.
    """

    def __init__(
        self,
        intake: Intake,
        door: Door,
        problems: ProblemRenderer,
        connections: Connections,
        rates: Rates,
        counts: dict[str, int],
        admin_port: int = 0,
        *,
        request_ids: RequestIds | None = None,
        requests: RequestLog | None = None,
    ) -> None:
        self.counts = counts
        self.rates = rates
        self.intake = intake
        self.door = door
        self.connections = connections
        self.admin_port = admin_port
        self.heads = PaymentHeads(door, rates)
        self.answers = Answers(problems, request_ids or RequestIds(), requests)
