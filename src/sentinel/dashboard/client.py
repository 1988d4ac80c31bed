"""The scoring API as the dashboard asks it; every failure is one error that says what to do."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from sentinel.access.own_key import OwnKey
from sentinel.dashboard.api_types import (
    Decision,
    DecisionDetail,
    DecisionsPage,
    Experiments,
    Explanation,
    Health,
    JudgedExperiment,
    LineUps,
    Promotion,
    Totals,
)
from sentinel.domain import Outcome, Unavailable, Verdict
from sentinel.drift.figures import DriftOverview, FeatureDetail
from sentinel.settings import ApiSettings

T = TypeVar("T")
Asked = Mapping[str, int | str | None]
"""Parameters of a question; None for what is not asked."""

PAGE_ROWS: Final = 1000
ANALYST: Final = "analyst"
"""Origin of the verdicts that are given here."""
_NOTHING: Final[Asked] = {}
_CONNECT_SECONDS: Final = 1.0
_ANY_ADDRESS: Final = ("0.0.0.0", "::", "")  # noqa: S104 -- compared with, not bound to


def api_url(api: ApiSettings, port: int = 0) -> str:
    """Where the scoring API is reached from this machine.

    Args:
        api: Where it listens.
        port: Another port of it; 0 for that of requests.

    >>> api_url(ApiSettings(host="0.0.0.0", port=9000)), api_url(ApiSettings(host="::1"))
    ('http://127.0.0.1:9000', 'http://[::1]:8000')
    """
    host = "127.0.0.1" if api.host in _ANY_ADDRESS else api.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port or api.port}"


class ScoringApi:
    """A connection to a scoring API, usable from many threads.

    Args:
        url: Its address, without a path.
        timeout_seconds: How long an answer may take.
        own_key: The key to send; None to send none.
        metrics_url: Where its counters are; empty: at the same address.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 4.0,
        own_key: OwnKey | None = None,
        metrics_url: str = "",
    ) -> None:
        self.url = url
        self._metrics = f"{metrics_url.rstrip('/')}/metrics"
        hooks = {} if own_key is None else {"request": [own_key.sign]}
        timeout = httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS))
        # A proxy of the environment is for the outside; the scorer is next door.
        self._http = httpx.Client(base_url=url, timeout=timeout, trust_env=False, event_hooks=hooks)

    def health(self) -> Health:
        """How model, feature state and ledger are.

        Raises:
            Unavailable: As for every question here: no answer, an error, or one not understood.
        """
        return self._read("/health", Health)

    def decisions(
        self, *, since_us: int | None = None, before: int | None = None, limit: int = PAGE_ROWS
    ) -> DecisionsPage:
        """Decisions, newest first.

        Args:
            since_us: Only those received at this time or later.
            before: Only those with a sequence below this.
            limit: Most decisions in the page.
        """
        asked = {"limit": limit, "since_us": since_us, "before": before}
        return self._read("/decisions", DecisionsPage, asked)

    def decision(self, sequence: int) -> Decision | None:
        """The decision at a place of the log, with what is known of the payment by now."""
        found = self.decisions(before=sequence + 1, limit=1).decisions
        return found[0] if found and found[0].sequence == sequence else None

    def waiting(self, limit: int = PAGE_ROWS, before: int | None = None) -> DecisionsPage:
        """Payments that were held for review and have no verdict, newest first.

        Args:
            limit: Most decisions in the page.
            before: Only what stands before this place in the log.
        """
        asked: Asked = {"limit": limit, "outcome": Outcome.REVIEW.value, "label": "none"}
        further: Asked = {} if before is None else {"before": before}
        return self._read("/decisions", DecisionsPage, {**asked, **further})

    def decisions_of(self, kind: str, identifier: str, limit: int = PAGE_ROWS) -> DecisionsPage:
        """Decisions on the payments of somebody, newest first.

        Args:
            kind: ``customer_id``, ``card_id`` or ``merchant_id``.
            identifier: Whose.
            limit: Most decisions in the page.
        """
        return self._read("/decisions", DecisionsPage, {"limit": limit, kind: identifier})

    def detail(self, transaction_id: str | int) -> DecisionDetail | None:
        """Where the decision on a payment is, and what was said of it; None if there is none."""
        path = f"/decisions/{urllib.parse.quote(str(transaction_id), safe='')}"
        answer = self._ask("GET", path, good=(200, 404))
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._understood(path, answer, DecisionDetail)

    def give_verdict(self, transaction_id: str | int, verdict: Verdict, label_id: str) -> None:
        """Record what an analyst found out about a payment.

        Args:
            transaction_id: Of the payment.
            verdict: What it was.
            label_id: Makes a repeat harmless.
        """
        label = {
            "transaction_id": transaction_id,
            "verdict": verdict.value,
            "label_id": label_id,
            "origin": ANALYST,
        }
        self._ask("POST", "/labels", json={"labels": [label]})

    def explanation(self, transaction_id: str | int) -> Explanation:
        """Why a decision was what it was."""
        path = f"/decisions/{urllib.parse.quote(str(transaction_id))}/explanation"
        return self._read(path, Explanation)

    def experiments(self) -> Experiments:
        """The experiments that run."""
        return self._read("/experiments", Experiments)

    def line_ups(self, most: int) -> LineUps:
        """The latest versions of the line-up, newest first."""
        return self._read("/experiments/history", LineUps, {"most": most})

    def experiment(self, name: str) -> JudgedExperiment:
        """All that is known of an experiment right now; what is not judged yet is under way."""
        return self._read(_path(name), JudgedExperiment, {"wait_seconds": 0})

    def change_share(self, name: str, share: float, *, why: str, user: str) -> None:
        """Give a challenger another share, or a shadow another sample, for a user."""
        body = {"name": name, "share": share, "why": why, "on_behalf_of": user}
        self._ask("POST", "/experiments/share", json=body)

    def stop_experiment(self, name: str, *, why: str, user: str) -> None:
        """Stop an experiment for a user."""
        self._ask("DELETE", _path(name), params={"why": why, "on_behalf_of": user})

    def promote(self, name: str, *, why: str, user: str, force: bool) -> Promotion:
        """Make a challenger the champion for a user; a promotion that takes long goes on.

        Args:
            name: Of the experiment.
            why: In the user's words.
            user: Who wants it.
            force: Whether it need not have been shown to be better.
        """
        asked = {"why": why, "on_behalf_of": user, "force": force, "wait_seconds": 0}
        path = f"{_path(name)}/promote"
        answer = self._ask("POST", path, params=asked, good=(200, 202))
        return self._understood(path, answer, Promotion)

    def drift(self) -> DriftOverview:
        """What moved since the model was made, as the monitor has it."""
        return self._read("/drift", DriftOverview)

    def drift_of(self, feature: str) -> FeatureDetail:
        """One feature, as it was and as it is."""
        return self._read(f"/drift/{urllib.parse.quote(feature, safe='')}", FeatureDetail)

    def totals(self) -> Totals:
        """The scorer's counters since its start."""
        try:
            return read_totals(self._get(self._metrics).text)
        except ValueError as error:
            raise self._not_understood(self._metrics, error) from error

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _read(self, path: str, kind: type[T], asked: Asked = _NOTHING) -> T:
        return self._understood(path, self._get(path, asked), kind)

    def _understood(self, path: str, answer: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.DecodeError as error:
            raise self._not_understood(path, error) from error

    def _get(self, path: str, asked: Asked = _NOTHING) -> httpx.Response:
        given = {name: value for name, value in asked.items() if value is not None}
        return self._ask("GET", path, params=given)

    def _ask(
        self, method: str, path: str, *, good: tuple[int, ...] = (200,), **given: Any
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **given)
        except httpx.TimeoutException as error:
            raise Unavailable(
                f"The scoring API at {self.url} takes too long to answer. It may be starting or "
                "overloaded: see `sentinel status`."
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"The scoring API at {self.url} does not answer. Start it with `sentinel serve`, "
                "or everything with `sentinel up`."
            ) from error
        if answer.status_code in (401, 403):
            raise Unavailable(
                f"The scoring API at {self.url} does not let the dashboard in: "
                f"{problem_detail(answer)} It sends the key in SENTINEL_ACCESS__KEY_FILE, or the "
                "workspace's own, which `sentinel keys create tools --for-tools` makes."
            )
        if answer.status_code not in good:
            raise Unavailable(
                f"The scoring API at {self.url} answered {path} with {answer.status_code}: "
                f"{problem_detail(answer)}"
            )
        return answer

    def _not_understood(self, path: str, error: Exception) -> Unavailable:
        return Unavailable(
            f"What {httpx.URL(self.url).join(path)} answers is not what this dashboard expects "
            f"({error}). Is another service at this address, or a scorer of another version?"
        )


def _path(name: str) -> str:
    return f"/experiments/{urllib.parse.quote(name, safe='')}"


def problem_detail(answer: httpx.Response) -> str:
    """What an error answer says, from its problem document if it is one."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200] or answer.reason_phrase


def read_totals(text: str) -> Totals:
    r"""The counters of a Prometheus exposition.

    >>> read_totals('sentinel_decisions_total{outcome="review"} 3.0\n').review
    3
    """
    found = dict.fromkeys(Totals.__struct_fields__, 0)
    plain = {
        "sentinel_degraded_decisions_total": "degraded",
        "sentinel_commit_failures_total": "commit_failures",
        "sentinel_labels_total": "labels",
    }
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "sentinel_decisions_total":
                name = sample.labels.get("outcome", "")
            else:
                name = plain.get(sample.name, "")
            if name in found:
                found[name] += int(sample.value)
    return Totals(**found)
