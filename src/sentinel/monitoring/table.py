"""The one table of all metrics: collectors and `docs/metrics.md` are made from it.

A row per metric: its name in Prometheus, kind, labels and unit, the process that exports it, and
what it says. `sentinel.monitoring.families` makes the samples.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram", "info"]
Exporter = Literal["scorer", "monitor", "dashboard", "follower"]


class MetricRow(NamedTuple):
    """A metric.

    Attributes:
        name: Without Prometheus' suffixes (`_total`, `_bucket`, `_info`).
        kind: Of the metric.
        unit: What a value is counted in.
        words: What it says, in a sentence.
        labels: Names of its labels; how many values each may have is in docs/bounds.md.
        exported_by: The process that answers with it at `/metrics`.
    """

    name: str
    kind: Kind
    unit: str
    words: str
    labels: tuple[str, ...] = ()
    exported_by: Exporter = "scorer"

    @property
    def sample(self) -> str:
        """The name to ask Prometheus for.

        >>> MetricRow("sentinel_voids", "counter", "payments", "Voids.").sample
        'sentinel_voids_total'
        """
        suffixes = {"counter": "_total", "gauge": "", "histogram": "_bucket", "info": "_info"}
        return self.name + suffixes[self.kind]


_MODEL_LABELS: Final = ("version", "role", "experiment")

SCORER: Final = (
    # Requests: rate, errors, duration.
    MetricRow(
        "sentinel_requests",
        "counter",
        "requests",
        "Requests answered, by route as the API declares it and HTTP status.",
        ("route", "status"),
    ),
    MetricRow(
        "sentinel_problems",
        "counter",
        "requests",
        "Error answers, by route and status.",
        ("route", "status"),
    ),
    MetricRow(
        "sentinel_request_seconds",
        "histogram",
        "seconds",
        "Time to answer requests other than payments, whose times are decision latencies.",
        ("route",),
    ),
    MetricRow(
        "sentinel_decision_latency_seconds",
        "histogram",
        "seconds",
        "Arrival of a payment to its durable answer.",
    ),
    MetricRow(
        "sentinel_repeated_requests",
        "counter",
        "requests",
        "Requests answered from the record.",
    ),
    MetricRow(
        "sentinel_conflicting_requests",
        "counter",
        "requests",
        "Requests whose id stands for another body.",
    ),
    # Resources: use, saturation, errors.
    MetricRow(
        "sentinel_pending_requests", "gauge", "payments", "Payments that wait for their turn."
    ),
    MetricRow("sentinel_open_connections", "gauge", "connections", "Connections of clients."),
    MetricRow(
        "sentinel_event_loop_lag_seconds",
        "gauge",
        "seconds",
        "How late the event loop came back from its last pause.",
    ),
    MetricRow("sentinel_commits", "counter", "commits", "Durable commits of the ledger."),
    MetricRow(
        "sentinel_commit_failures", "counter", "commits", "Commits of the ledger that failed."
    ),
    MetricRow(
        "sentinel_commit_latency_seconds", "histogram", "seconds", "Time of a commit of the ledger."
    ),
    MetricRow(
        "sentinel_ledger_sequence", "gauge", "entries", "Sequence of the last durable log entry."
    ),
    MetricRow(
        "sentinel_indexed_sequence", "gauge", "entries", "Last entry in the queryable tables."
    ),
    MetricRow(
        "sentinel_snapshot_sequence", "gauge", "entries", "Last entry in the newest snapshot."
    ),
    MetricRow("sentinel_start_time_seconds", "gauge", "seconds", "Unix time of the start."),
    MetricRow(
        "sentinel_telemetry_failures",
        "counter",
        "failures",
        "Times that a line about a request, or a trace, could not be made. Answers do not change.",
    ),
    # Decisions.
    MetricRow(
        "sentinel_decisions",
        "counter",
        "payments",
        "Decisions made, by outcome and by the model that decided: its version, its role "
        "(champion, challenger, segment) and the experiment it is of.",
        ("outcome", *_MODEL_LABELS),
    ),
    MetricRow(
        "sentinel_fraud_probability",
        "histogram",
        "probability",
        "Calibrated probabilities that were ruled on.",
    ),
    MetricRow(
        "sentinel_degraded_decisions",
        "counter",
        "payments",
        "Decisions made without feature state (no_state), or without the records of new entities "
        "for which it has no room (no_room).",
        ("reason",),
    ),
    MetricRow(
        "sentinel_model_scores",
        "counter",
        "payments",
        "Payments scored by models beside the champion, whether or not they decided.",
        _MODEL_LABELS,
    ),
    MetricRow(
        "sentinel_model_scoring_seconds",
        "counter",
        "seconds",
        "Time that models beside the champion took for them.",
        _MODEL_LABELS,
    ),
    MetricRow(
        "sentinel_experiment_failures",
        "counter",
        "failures",
        "Times that a model beside the champion raised, and was asked no more.",
    ),
    MetricRow(
        "sentinel_experiment_payments_uncounted",
        "counter",
        "payments",
        "Payments of experiments that guardrails left out, because too many waited.",
    ),
    # The control group.
    MetricRow(
        "sentinel_control_group_eligible",
        "counter",
        "payments",
        "Payments of which the control group could have changed the outcome.",
    ),
    MetricRow(
        "sentinel_control_group_explored",
        "counter",
        "payments",
        "Payments that would have been stopped and were let through, so that their truth is known.",
    ),
    MetricRow(
        "sentinel_control_group_amount_minor",
        "counter",
        "minor units",
        "Amounts of the payments let through.",
    ),
    MetricRow(
        "sentinel_control_group_expected_loss_minor",
        "counter",
        "minor units",
        "What the control group costs: those amounts, each times its probability of fraud.",
    ),
    # Features and their state.
    MetricRow(
        "sentinel_event_age_seconds",
        "histogram",
        "seconds",
        "From the time of a payment to its arrival: how stale features are that it changes.",
    ),
    MetricRow(
        "sentinel_late_events",
        "counter",
        "payments",
        "Payments older than the newest one of an entity.",
    ),
    MetricRow(
        "sentinel_expired_events", "counter", "payments", "Payments too old to change any window."
    ),
    MetricRow(
        "sentinel_new_entities",
        "counter",
        "records",
        "Records of feature state made for new entities.",
    ),
    MetricRow(
        "sentinel_batches_over_quota",
        "counter",
        "requests",
        "Batches refused because they would add more entities than their sender may.",
    ),
    MetricRow(
        "sentinel_state_entities",
        "gauge",
        "records",
        "Records of entities in this process, by view.",
        ("view",),
    ),
    MetricRow(
        "sentinel_state_bytes",
        "gauge",
        "bytes",
        "What they take, without their keys, by view.",
        ("view",),
    ),
    MetricRow(
        "sentinel_state_held_bytes",
        "gauge",
        "bytes",
        "Memory that feature state takes, keys included, wherever it is kept.",
    ),
    MetricRow(
        "sentinel_state_budget_bytes",
        "gauge",
        "bytes",
        "Memory that it may take; at this size no new records are made. 0: no bound.",
    ),
    MetricRow(
        "sentinel_state_rebuilds", "counter", "rebuilds", "Rebuilds of state from the ledger."
    ),
    MetricRow(
        "sentinel_repairs_pending", "gauge", "records", "Records of shared state to be rebuilt."
    ),
    # Labels.
    MetricRow("sentinel_labels", "counter", "labels", "Labels recorded, by verdict.", ("verdict",)),
    MetricRow(
        "sentinel_label_delay_seconds",
        "histogram",
        "seconds",
        "From the arrival of a payment to that of a label about it, by what the label says.",
        ("verdict",),
    ),
    MetricRow(
        "sentinel_voids",
        "counter",
        "payments",
        "Payments declared void. Decisions count them as before.",
    ),
    # The model.
    MetricRow(
        "sentinel_model", "info", "", "The model in charge.", ("name", "version", "plan_hash")
    ),
    MetricRow("sentinel_model_swaps", "counter", "models", "Models taken over from the registry."),
    MetricRow(
        "sentinel_model_swap_seconds",
        "gauge",
        "seconds",
        "How long the last change of models took.",
    ),
    MetricRow(
        "sentinel_model_problem", "gauge", "", "1 while the registry's champion cannot serve."
    ),
    MetricRow(
        "sentinel_registry_answered_time_seconds",
        "gauge",
        "seconds",
        "Unix time of the registry's last answer to the follower.",
    ),
)

WATCHES: Final = (
    MetricRow(
        "sentinel_watch_runs",
        "counter",
        "runs",
        "Runs of the monitor's watches, by how they ended.",
        ("watch", "result"),
        "monitor",
    ),
    MetricRow(
        "sentinel_watch_last_success_timestamp_seconds",
        "gauge",
        "seconds",
        "When a run of the watch last ended well; 0: never.",
        ("watch",),
        "monitor",
    ),
    MetricRow(
        "sentinel_watch_pause_seconds",
        "gauge",
        "seconds",
        "How long the watch rests after a run that ended well.",
        ("watch",),
        "monitor",
    ),
    MetricRow(
        "sentinel_watch_last_run_seconds",
        "gauge",
        "seconds",
        "How long its last run took.",
        ("watch",),
        "monitor",
    ),
)

SURROUNDINGS: Final = (
    MetricRow(
        "sentinel_disk_used_share",
        "gauge",
        "",
        "Share of the watched file system that is in use.",
        ("path",),
        "monitor",
    ),
    MetricRow(
        "sentinel_disk_full_share",
        "gauge",
        "",
        "From which share on it is nearly full, as set.",
        ("path",),
        "monitor",
    ),
    MetricRow("sentinel_redis_answers", "gauge", "", "1 if Redis answers.", exported_by="monitor"),
)

MEASURED: Final = (
    # Labels.
    MetricRow(
        "sentinel_label_feed_labels",
        "counter",
        "labels",
        "Labels of the log that the monitor has read since its start, imported ones included.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_label_feed_newest_time_seconds",
        "gauge",
        "seconds",
        "Unix time at which the newest label arrived; 0: none ever has.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_label_feed_silent_seconds",
        "gauge",
        "seconds",
        "How long no label had come by the end of the log; 0: none ever has.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_label_feed_accepted_silence_seconds",
        "gauge",
        "seconds",
        "How long that may last by the feed's own rhythm, or as set; 0: nothing is known of a "
        "rhythm, and any silence is accepted.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_label_feed_stopped",
        "gauge",
        "",
        "1 while the silence is longer than is accepted: training would stop.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_label_feed_sequence",
        "gauge",
        "entries",
        "Last log entry that the monitor's look at labels has read; how far it is behind the log.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_immature_payments",
        "gauge",
        "payments",
        "Decisions younger than labels.maturity_days: their truth may still come.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_label_maturity_seconds",
        "gauge",
        "seconds",
        "labels.maturity_days: a payment without a label counts as legitimate from then on. Labels "
        "that take longer come too late for a training.",
        (),
        "monitor",
    ),
    # Parity.
    MetricRow(
        "sentinel_parity_samples",
        "counter",
        "rows",
        "Served rows that were recomputed from the log.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_parity_values",
        "counter",
        "values",
        "Values of these rows.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_parity_mismatches",
        "counter",
        "values",
        "Values that were served and that the log does not say.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_parity_time_seconds",
        "gauge",
        "seconds",
        "Unix time of the last such sample; 0: none since the start.",
        (),
        "monitor",
    ),
)

DRIFT: Final = (
    MetricRow(
        "sentinel_drift_alarms",
        "gauge",
        "changes",
        "Changes of payments that are on and not silenced, of the model that decides.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_feature_alarms",
        "gauge",
        "changes",
        "The same by feature, 0 once a feature's changes have ended; 50 features, and the further "
        "ones together.",
        ("feature",),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_changes",
        "gauge",
        "changes",
        "Changes that are on, silenced ones included.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_largest_distance",
        "gauge",
        "",
        "Largest total-variation distance of the changes that are on and not silenced; 0: "
        "there are none.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_evidence",
        "gauge",
        "",
        "Average evidence of all streams against no change.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_evidence_threshold",
        "gauge",
        "",
        "Evidence that raises an alarm; 0: nothing is tested.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_tested_timestamp_seconds",
        "gauge",
        "seconds",
        "Unix time of the end of the last hour that was tested; 0: none was.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_untested",
        "gauge",
        "",
        "1 while nothing is tested for the model that decides, for want of a reference.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_followed_sequence",
        "gauge",
        "entries",
        "Last entry of the log that was taken in.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_lag_entries",
        "gauge",
        "entries",
        "Entries of the log that were not taken in yet.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_entries",
        "counter",
        "entries",
        "Entries of the log that this process took in, by kind.",
        ("kind",),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_decisions",
        "counter",
        "payments",
        "Decisions among them by what became of each: counted; degraded or late, and counted "
        "apart; or uncounted, for want of a reference.",
        ("result",),
        "monitor",
    ),
    MetricRow(
        "sentinel_drift_missing_share",
        "gauge",
        "",
        "Share of unknown values among the payments of this hour and the one before, for the "
        "20 features whose share is farthest from the reference's.",
        ("feature",),
        "monitor",
    ),
)

LABEL_DRIFT: Final = (
    MetricRow(
        "sentinel_label_drift_alarms",
        "gauge",
        "changes",
        "1 while what labels say has changed and nobody silenced it, by what changed.",
        ("stream",),
        "monitor",
    ),
    MetricRow(
        "sentinel_label_drift_tested_days",
        "gauge",
        "days",
        "Days of payments that were held against the reference, as labels tell them.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_label_drift_untested",
        "gauge",
        "",
        "1 while nothing is tested, for want of mature days and frauds.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_label_drift_as_of_timestamp_seconds",
        "gauge",
        "seconds",
        "Unix time of the end of the log that the test is of.",
        (),
        "monitor",
    ),
)

CONTROL_GROUP: Final = (
    MetricRow(
        "sentinel_control_group_budget_minor",
        "gauge",
        "minor units",
        "What the control group may cost in 30 days, as expected, by the policy; 0: none is "
        "allowed.",
        (),
        "monitor",
    ),
    MetricRow(
        "sentinel_control_group_expected_cost_minor",
        "gauge",
        "minor units",
        "Amounts that it let through in 30 days, each times its probability of fraud: the last "
        "30 days, or the newest 30 that are mature.",
        ("days",),
        "monitor",
    ),
    MetricRow(
        "sentinel_control_group_realised_loss_minor",
        "gauge",
        "minor units",
        "Those of these amounts that labels call fraud by now.",
        ("days",),
        "monitor",
    ),
    MetricRow(
        "sentinel_control_group_payments",
        "gauge",
        "payments",
        "How many they are, by what labels say of them by now: fraud, legitimate, or nothing.",
        ("days", "truth"),
        "monitor",
    ),
)

DASHBOARD: Final = (
    MetricRow(
        "sentinel_dashboard_requests",
        "counter",
        "requests",
        "Requests that the dashboard's door answered or let in, by what they are for and status; "
        "101: a page's stream of updates was let in.",
        ("page", "status"),
        "dashboard",
    ),
    MetricRow(
        "sentinel_dashboard_request_seconds",
        "histogram",
        "seconds",
        "From a request's arrival at the door to the end of its answer, without streams.",
        ("page",),
        "dashboard",
    ),
    MetricRow(
        "sentinel_dashboard_open_pages",
        "gauge",
        "pages",
        "Pages that are open in browsers, each with its stream of updates.",
        (),
        "dashboard",
    ),
    MetricRow(
        "sentinel_dashboard_waiting_logins",
        "gauge",
        "logins",
        "Logins that wait for their turn or are checked.",
        (),
        "dashboard",
    ),
)

FOLLOWER: Final = (
    MetricRow(
        "sentinel_follower_looks",
        "counter",
        "looks",
        "Looks at the registry and the line-up, by how they ended.",
        ("result",),
        "follower",
    ),
    MetricRow(
        "sentinel_follower_look_seconds",
        "histogram",
        "seconds",
        "Time of a look, with all that it fetched.",
        (),
        "follower",
    ),
    MetricRow(
        "sentinel_follower_last_success_timestamp_seconds",
        "gauge",
        "seconds",
        "When a look last ended well, Unix time; 0: none has.",
        (),
        "follower",
    ),
    MetricRow(
        "sentinel_follower_lag_versions",
        "gauge",
        "versions",
        "Versions that registry or line-up want here, as far as it is known, and that are not.",
        (),
        "follower",
    ),
    MetricRow(
        "sentinel_follower_lag_seconds",
        "gauge",
        "seconds",
        "How long ago all that is wanted was last known to be here; 0: it is.",
        (),
        "follower",
    ),
)

METRICS: Final = (
    SCORER
    + WATCHES
    + SURROUNDINGS
    + MEASURED
    + CONTROL_GROUP
    + DRIFT
    + LABEL_DRIFT
    + DASHBOARD
    + FOLLOWER
)
BY_NAME: Final = {row.name: row for row in METRICS}
