"""Writes Grafana's dashboards into monitoring/grafana/dashboards, with Grafana's foundation SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos

FOLDER: Final = Path(__file__).resolve().parent.parent / "monitoring" / "grafana" / "dashboards"
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")
RATE: Final = "$__rate_interval"
COLUMNS: Final = 24


class Query(NamedTuple):
    """An expression, and what its lines are called."""

    expression: str
    legend: str = ""


class Picture(NamedTuple):
    """A panel: how things went, or one figure of now.

    Attributes:
        title: Above it.
        words: Behind its mark, for whoever does not know the metric.
        unit: Grafana's name of it.
        queries: What it shows.
        is_figure: Whether it is one figure.
    """

    title: str
    words: str
    unit: str
    queries: tuple[Query, ...]
    is_figure: bool = False


class Board(NamedTuple):
    """A dashboard."""

    uid: str
    title: str
    pictures: tuple[Picture, ...]


def figure(title: str, words: str, unit: str, expression: str, legend: str = "") -> Picture:
    """A panel with one figure."""
    return Picture(title, words, unit, (Query(expression, legend),), is_figure=True)


def lines(title: str, words: str, unit: str, *queries: tuple[str, str]) -> Picture:
    """A panel with lines over time: (expression, legend) each."""
    return Picture(title, words, unit, tuple(Query(*query) for query in queries))


def quantiles(metric: str, by: str = "", legend: str = "") -> tuple[tuple[str, str], ...]:
    """Median and 99 % quantile of a histogram."""
    names = f"le, {by}" if by else "le"
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({names}) (rate({metric}_bucket[{RATE}])))",
            f"p{100 * q:g}{legend}",
        )
        for q in (0.5, 0.99)
    )


def per_second(metric: str, by: str = "") -> str:
    """The rate of a counter over all processes."""
    names = f" by ({by})" if by else ""
    return f"sum{names} (rate({metric}[{RATE}]))"


OVERVIEW: Final = Board(
    "sentinel",
    "Sentinel: overview",
    (
        figure("Scorers up", "Scorers that answer.", "short", 'sum(up{job="sentinel"})'),
        figure("Decisions a second", "Mean of 5 minutes.", "reqps", "sentinel:decisions:rate5m"),
        figure(
            "Alerts among decisions",
            "Payments reviewed or declined.",
            "percentunit",
            "sentinel:alert_share:rate5m",
        ),
        figure(
            "p99 of a decision",
            "Arrival to durable answer.",
            "s",
            "sentinel:decision_latency_seconds:p99_5m",
        ),
        figure(
            "Degraded a second",
            "Decisions without feature state.",
            "reqps",
            "sum(rate(sentinel_degraded_decisions_total[5m]))",
        ),
        figure(
            "Model",
            "Version in charge.",
            "short",
            "max by (version) (sentinel_model_info)",
            "version {{version}}",
        ),
        lines(
            "Decisions by outcome",
            "What payments were answered.",
            "reqps",
            (per_second("sentinel_decisions_total", "outcome"), "{{outcome}}"),
        ),
        lines(
            "Time to a durable answer",
            "Arrival of a payment to its answer.",
            "s",
            *quantiles("sentinel_decision_latency_seconds"),
        ),
        lines(
            "Alert share",
            "Payments reviewed or declined, beside the mean of a week.",
            "percentunit",
            ("sentinel:alert_share:rate5m", "now"),
            ("avg_over_time(sentinel:alert_share:rate5m[7d])", "mean of seven days"),
        ),
        lines(
            "Error budget",
            "How many times as fast as sustainable the budget of errors and of slow answers burns.",
            "short",
            ("sentinel:payment_errors:ratio_rate1h / 0.001", "errors"),
            ("sentinel:slow_decisions:ratio_rate1h / 0.001", "slow answers"),
        ),
    ),
)
SCORER: Final = Board(
    "sentinel-scorer",
    "Sentinel: scorer",
    (
        lines(
            "Requests by route",
            "All answers, errors included.",
            "reqps",
            (per_second("sentinel_requests_total", "route"), "{{route}}"),
        ),
        lines(
            "Error answers",
            "By route and status.",
            "reqps",
            (per_second("sentinel_problems_total", "route, status"), "{{status}} {{route}}"),
        ),
        lines(
            "Time to answer, other routes",
            "Requests other than payments.",
            "s",
            *quantiles("sentinel_request_seconds", "route", " {{route}}"),
        ),
        lines(
            "Commits",
            "Time of a durable commit of the ledger.",
            "s",
            *quantiles("sentinel_commit_latency_seconds"),
        ),
        lines(
            "Commits a second",
            "And those that failed.",
            "ops",
            (per_second("sentinel_commits_total"), "commits"),
            (per_second("sentinel_commit_failures_total"), "failures"),
        ),
        lines(
            "Saturation",
            "Payments that wait, connections, and how late the event loop is.",
            "short",
            ("sum by (instance) (sentinel_pending_requests)", "waiting {{instance}}"),
            ("sum by (instance) (sentinel_open_connections)", "connections {{instance}}"),
        ),
        lines(
            "Event loop",
            "How late it came back from a pause.",
            "s",
            ("max by (instance) (sentinel_event_loop_lag_seconds)", "{{instance}}"),
        ),
        lines(
            "Decisions by model",
            "Version, role and experiment of the model that decided.",
            "reqps",
            (
                per_second("sentinel_decisions_total", "version, role, experiment"),
                "{{role}} {{version}} {{experiment}}",
            ),
        ),
        lines(
            "Models beside the champion",
            "Payments that they scored.",
            "reqps",
            (
                per_second("sentinel_model_scores_total", "version, role, experiment"),
                "{{role}} {{version}} {{experiment}}",
            ),
        ),
        lines(
            "What they take",
            "Seconds for a payment.",
            "s",
            (
                per_second("sentinel_model_scoring_seconds_total", "experiment")
                + " / "
                + per_second("sentinel_model_scores_total", "experiment"),
                "{{experiment}}",
            ),
        ),
        lines(
            "Degraded decisions",
            "By reason.",
            "reqps",
            (per_second("sentinel_degraded_decisions_total", "reason"), "{{reason}}"),
        ),
        lines(
            "Repeats and conflicts",
            "Ids that came before.",
            "reqps",
            (per_second("sentinel_repeated_requests_total"), "repeats"),
            (per_second("sentinel_conflicting_requests_total"), "conflicts"),
        ),
        lines(
            "State by view",
            "Records of entities.",
            "short",
            ("sum by (view) (sentinel_state_entities)", "{{view}}"),
        ),
        lines(
            "Memory of state",
            "By view, and all of it with keys.",
            "bytes",
            ("sum by (view) (sentinel_state_bytes)", "{{view}}"),
            ("sum by (instance) (sentinel_state_held_bytes)", "held {{instance}}"),
            ("sum by (instance) (sentinel_state_budget_bytes)", "budget {{instance}}"),
        ),
        lines(
            "New entities",
            "Records made, and batches refused for too many.",
            "ops",
            (per_second("sentinel_new_entities_total"), "records"),
            (per_second("sentinel_batches_over_quota_total"), "batches refused"),
        ),
        lines(
            "Index behind the ledger",
            "Entries that the queryable tables lack.",
            "short",
            (
                "sum by (instance) (sentinel_ledger_sequence - sentinel_indexed_sequence)",
                "{{instance}}",
            ),
        ),
    ),
)
LEARNING: Final = Board(
    "sentinel-learning",
    "Sentinel: learning and labels",
    (
        figure(
            "Silence of labels",
            "From the newest label to the end of the log.",
            "s",
            "max(sentinel_label_feed_silent_seconds)",
        ),
        figure(
            "Accepted silence",
            "By the rhythm of the feed; 0: too few labels to know.",
            "s",
            "max(sentinel_label_feed_accepted_silence_seconds)",
        ),
        figure(
            "Immature payments",
            "Their truth may still come.",
            "short",
            "max(sentinel_immature_payments)",
        ),
        figure(
            "Explored payments",
            "Let through by the control group, of a day.",
            "short",
            "sum(increase(sentinel_control_group_explored_total[1d]))",
        ),
        lines(
            "Labels recorded",
            "At the API.",
            "short",
            ("sum by (verdict) (increase(sentinel_labels_total[1h]))", "{{verdict}} in the hour"),
            ("sum(increase(sentinel_voids_total[1h]))", "voids in the hour"),
        ),
        lines(
            "Delay of labels",
            "From the arrival of a payment to its label at the API, beside the age of maturity.",
            "s",
            *quantiles("sentinel_label_delay_seconds", "verdict", " {{verdict}}"),
            ("max(sentinel_label_maturity_seconds)", "mature"),
        ),
        lines(
            "Labels in the log",
            "Imported ones included.",
            "short",
            ("sum(increase(sentinel_label_feed_labels_total[1h]))", "in the hour"),
        ),
        lines(
            "Control group",
            "Payments of which it could change the outcome, and those let through.",
            "reqps",
            (per_second("sentinel_control_group_eligible_total"), "eligible"),
            (per_second("sentinel_control_group_explored_total"), "let through"),
        ),
        lines(
            "Cost of the control group",
            "Minor units in the hour: amounts let through, and what of it is expected to be lost.",
            "short",
            ("sum(increase(sentinel_control_group_amount_minor_total[1h]))", "amount"),
            (
                "sum(increase(sentinel_control_group_expected_loss_minor_total[1h]))",
                "expected loss",
            ),
        ),
        lines(
            "Control group by its truth",
            "Of 30 days: payments that were let through, by what labels say of them.",
            "short",
            (
                "max by (days, truth) (sentinel_control_group_payments)",
                "{{truth}}, {{days}} 30 days",
            ),
        ),
        lines(
            "Realised loss of the control group",
            "Minor units of 30 days: its budget, what it was expected to cost, and what labels "
            "call fraud of it; of the last days much is not known yet.",
            "short",
            ("max(sentinel_control_group_budget_minor)", "budget"),
            (
                "max by (days) (sentinel_control_group_expected_cost_minor)",
                "expected, {{days}} 30 days",
            ),
            (
                "max by (days) (sentinel_control_group_realised_loss_minor)",
                "realised, {{days}} 30 days",
            ),
        ),
        lines(
            "Experiments",
            "Models that raised, and payments that guardrails left out.",
            "short",
            ("sum(increase(sentinel_experiment_failures_total[1h]))", "failures"),
            ("sum(increase(sentinel_experiment_payments_uncounted_total[1h]))", "uncounted"),
        ),
        lines(
            "Models",
            "Taken over from the registry, and whether its champion cannot serve.",
            "short",
            ("sum(increase(sentinel_model_swaps_total[1h]))", "taken over"),
            ("max(sentinel_model_problem)", "cannot serve"),
        ),
        lines(
            "Last answer of the registry",
            "Unix time, by scorer; 0: none is followed.",
            "dateTimeFromNow",
            ("max by (instance) (1000 * sentinel_registry_answered_time_seconds)", "{{instance}}"),
        ),
    ),
)
DRIFT: Final = Board(
    "sentinel-drift",
    "Sentinel: drift",
    (
        figure(
            "Alarms",
            "Changes of payments that are on and not silenced.",
            "short",
            "max(sentinel_drift_alarms)",
        ),
        figure(
            "Largest change",
            "Total-variation distance of the alarms; 0: there are none.",
            "percentunit",
            "max(sentinel_drift_largest_distance)",
        ),
        figure(
            "Tested up to",
            "End of the last hour that was tested; 56 years ago: none was.",
            "dateTimeFromNow",
            "max(1000 * sentinel_drift_tested_timestamp_seconds)",
        ),
        figure(
            "Untested",
            "1 while the model that decides has no reference that is long enough.",
            "short",
            "max(sentinel_drift_untested)",
        ),
        figure(
            "Parity",
            "Values of sampled rows that the log does not say; it is 0.",
            "short",
            "sum(sentinel_parity_mismatches_total)",
        ),
        figure(
            "Rows sampled",
            "Since the monitor's start.",
            "short",
            "sum(sentinel_parity_samples_total)",
        ),
        lines(
            "Changes",
            "Streams (a feature in a segment) that changed and have not come back.",
            "short",
            ("max(sentinel_drift_alarms)", "not silenced"),
            ("max(sentinel_drift_changes)", "all"),
        ),
        lines(
            "Evidence",
            "Average of all streams, beside what raises an alarm; 0: nothing is tested.",
            "short",
            ("max(sentinel_drift_evidence)", "evidence"),
            ("max(sentinel_drift_evidence_threshold)", "raises an alarm"),
        ),
        lines(
            "Unknown values",
            "Share of payments of this hour and the one before without the feature: the 20 that "
            "are farthest from the reference.",
            "percentunit",
            ("max by (feature) (sentinel_drift_missing_share)", "{{feature}}"),
        ),
        lines(
            "Followed decisions",
            "What became of them; late and degraded ones are counted apart.",
            "reqps",
            (per_second("sentinel_drift_decisions_total", "result"), "{{result}}"),
        ),
        lines(
            "Followed log",
            "Entries taken in, by kind.",
            "ops",
            (per_second("sentinel_drift_entries_total", "kind"), "{{kind}}"),
        ),
        lines(
            "Behind the log",
            "Entries that were not taken in yet.",
            "short",
            ("max(sentinel_drift_lag_entries)", "entries"),
        ),
        lines(
            "Fraud probability",
            "Quantiles of what was ruled on.",
            "percentunit",
            *quantiles("sentinel_fraud_probability"),
        ),
        lines(
            "Distribution of the score",
            "Payments by the upper edge of their probability.",
            "short",
            ("sum by (le) (increase(sentinel_fraud_probability_bucket[1h]))", "{{le}}"),
        ),
        lines(
            "Age of payments",
            "From the time of a payment to its arrival.",
            "s",
            *quantiles("sentinel_event_age_seconds"),
        ),
        lines(
            "Late payments",
            "Older than the newest of an entity, and too old for any window.",
            "reqps",
            (per_second("sentinel_late_events_total"), "late"),
            (per_second("sentinel_expired_events_total"), "too late for any window"),
        ),
    ),
)
INFRASTRUCTURE: Final = Board(
    "sentinel-infrastructure",
    "Sentinel: infrastructure",
    (
        lines("Up", "What Prometheus reaches.", "short", ("sum by (job) (up)", "{{job}}")),
        lines(
            "CPU",
            "Processors in use, by process.",
            "short",
            (per_second("process_cpu_seconds_total", "job, instance"), "{{job}} {{instance}}"),
        ),
        lines(
            "Memory",
            "Resident, by process.",
            "bytes",
            ("sum by (job, instance) (process_resident_memory_bytes)", "{{job}} {{instance}}"),
        ),
        lines(
            "Open files",
            "Of those that a process may open.",
            "percentunit",
            (
                "sum by (job, instance) (process_open_fds / process_max_fds)",
                "{{job}} {{instance}}",
            ),
        ),
        lines(
            "Watches of the monitor",
            "Runs, by how they ended.",
            "short",
            (
                "sum by (watch, result) (increase(sentinel_watch_runs_total[1h]))",
                "{{watch}} {{result}}",
            ),
        ),
        lines(
            "What watches take",
            "Seconds of the last run.",
            "s",
            ("max by (watch) (sentinel_watch_last_run_seconds)", "{{watch}}"),
        ),
        lines(
            "Repairs",
            "Rebuilds of state, and records of shared state that wait for one.",
            "short",
            ("sum(increase(sentinel_state_rebuilds_total[1h]))", "rebuilds in the hour"),
            ("sum(sentinel_repairs_pending)", "waiting"),
        ),
        lines(
            "Log",
            "Last entry of the ledger, of the newest snapshot, and that the monitor has read.",
            "short",
            ("max(sentinel_ledger_sequence)", "ledger"),
            ("max(sentinel_snapshot_sequence)", "snapshot"),
            ("max(sentinel_label_feed_sequence)", "monitor, labels"),
            ("max(sentinel_drift_followed_sequence)", "monitor, drift"),
        ),
        lines(
            "Dashboard: requests",
            "At its door, by what they are for and status.",
            "reqps",
            (
                per_second("sentinel_dashboard_requests_total", "page, status"),
                "{{status}} {{page}}",
            ),
        ),
        lines(
            "Dashboard: time to answer",
            "Without streams of updates.",
            "s",
            *quantiles("sentinel_dashboard_request_seconds", "page", " {{page}}"),
        ),
        lines(
            "Dashboard: use",
            "Pages that are open in browsers, and logins that wait.",
            "short",
            ("max(sentinel_dashboard_open_pages)", "open pages"),
            ("max(sentinel_dashboard_waiting_logins)", "waiting logins"),
        ),
        lines(
            "Follower: looks",
            "At the registry, by how they ended.",
            "ops",
            (per_second("sentinel_follower_looks_total", "result"), "{{result}}"),
        ),
        lines(
            "Follower: time of a look",
            "With all that it fetched.",
            "s",
            *quantiles("sentinel_follower_look_seconds"),
        ),
        lines(
            "Follower: behind the registry",
            "Versions that are wanted and not here, how long ago all were known to be here, and "
            "how long ago a look last ended well.",
            "short",
            ("max(sentinel_follower_lag_versions)", "versions"),
            ("max(sentinel_follower_lag_seconds)", "seconds"),
            (
                "time() - max(sentinel_follower_last_success_timestamp_seconds > 0)",
                "seconds since a good look",
            ),
        ),
        lines(
            "Scorer: telemetry",
            "Lines about requests and traces that could not be made.",
            "short",
            ("sum(increase(sentinel_telemetry_failures_total[1h]))", "failures in the hour"),
        ),
        lines(
            "Prometheus",
            "Series in memory.",
            "short",
            ("max(prometheus_tsdb_head_series)", "series"),
        ),
    ),
)
BOARDS: Final = {
    "overview": OVERVIEW,
    "scorer": SCORER,
    "learning": LEARNING,
    "drift": DRIFT,
    "infrastructure": INFRASTRUCTURE,
}


def built(board: Board) -> str:
    """The JSON that Grafana provisions."""
    made = (
        Dashboard(board.title)
        .uid(board.uid)
        .tags(["sentinel"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
    )
    x = y = 0
    for number, picture in enumerate(board.pictures, 1):
        width, height = (4, 4) if picture.is_figure else (12, 8)
        if x + width > COLUMNS or (x and not picture.is_figure and x % width):
            x, y = 0, y + (4 if board.pictures[number - 2].is_figure else 8)
        panel = Stat() if picture.is_figure else Timeseries()
        panel.id(number).title(picture.title).description(picture.words).unit(picture.unit)
        panel.datasource(SOURCE).grid_pos(GridPos(h=height, w=width, x=x, y=y))
        for place, query in enumerate(picture.queries):
            asked = Dataquery().expr(query.expression).legend_format(query.legend)
            panel.with_target(asked.ref_id(chr(ord("A") + place)).datasource(SOURCE))
        made.with_panel(panel)
        x += width
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


if __name__ == "__main__":
    for name, board in BOARDS.items():
        (FOLDER / f"{name}.json").write_text(built(board), encoding="utf-8")
