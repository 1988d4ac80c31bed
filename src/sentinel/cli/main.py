"""`sentinel`: its verbs by name, in the order in which `--help` lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer

from sentinel.cli.verbs import (
    alerts,
    data,
    drift,
    drift_report,
    experiment_results,
    experiments,
    features,
    keys,
    models,
    online,
    policy,
    registry,
    serving,
    state,
    users,
    workspace,
)
from sentinel.private_files import keep_files_private

app = typer.Typer(
    name="sentinel",
    help="Self-hosted real-time fraud detection.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_VERBS: Mapping[str, Callable[..., Any]] = {
    "up": serving.up,
    "propose": data.propose,
    "serve": serving.serve,
    "dashboard": serving.dashboard,
    "mlflow": serving.mlflow,
    "follow": serving.follow,
    "monitor": serving.monitor,
    "simulate": serving.simulate,
    "import": data.import_,
    "example": data.example,
    "import-labels": data.import_labels,
    "train": models.train,
    "retrain": models.retrain,
    "learn": online.learn,
    "evaluate": models.evaluate,
    "promote": models.promote,
    "rollback": models.rollback,
    "report": models.report,
    "compare": models.compare,
    "explain": models.explain,
    "export": data.export,
    "void": state.void,
    "status": workspace.status,
    "doctor": workspace.doctor,
    "reset": workspace.reset,
}
_FEATURES: Mapping[str, Callable[..., Any]] = {
    "plan": features.plan,
    "init": features.init,
    "apply": features.apply,
    "backfill": features.backfill,
    "materialize": features.materialize,
    "verify": features.verify,
}

for name, verb in _VERBS.items():
    app.command(name)(verb)
app.command("verify", hidden=True)(workspace.verify)

features_app = typer.Typer(
    name="features", help="Feature definitions, plan and backfill.", no_args_is_help=True
)
for name, verb in _FEATURES.items():
    features_app.command(name)(verb)
app.add_typer(features_app)

models_app = typer.Typer(
    name="models", help="Versions of the registry, and who vouches for them.", no_args_is_help=True
)
models_app.command("list")(registry.list_)
models_app.command("show")(registry.show)
models_app.command("approve")(registry.approve)
models_app.command("retire")(registry.retire)
models_app.command("sign")(models.sign)
models_app.command("signing-key")(models.signing_key)
app.add_typer(models_app)

_POLICY: Mapping[str, Callable[..., Any]] = {
    "show": policy.show,
    "preview": policy.preview,
    "apply": policy.apply,
    "refresh": policy.refresh,
    "history": policy.history,
}
policy_app = typer.Typer(
    name="policy", help="What is done with payments, by which costs.", no_args_is_help=True
)
for name, verb in _POLICY.items():
    policy_app.command(name)(verb)
app.add_typer(policy_app)

_EXPERIMENTS: Mapping[str, Callable[..., Any]] = {
    "start": experiments.start,
    "list": experiments.list_,
    "share": experiments.share,
    "stop": experiments.stop,
    "history": experiments.history,
    "status": experiment_results.status,
    "promote": experiment_results.promote,
    "settle": experiment_results.settle,
}
experiment_app = typer.Typer(
    name="experiment", help="Models beside the champion, and how they do.", no_args_is_help=True
)
for name, verb in _EXPERIMENTS.items():
    experiment_app.command(name)(verb)
app.add_typer(experiment_app)

_DRIFT: Mapping[str, Callable[..., Any]] = {
    "status": drift.status,
    "report": drift_report.report,
    "silence": drift.silence,
    "plan": drift.plan,
    "end": drift.end,
    "rebuild": drift.rebuild,
}
drift_app = typer.Typer(
    name="drift", help="What changed in the payments since training.", no_args_is_help=True
)
for name, verb in _DRIFT.items():
    drift_app.command(name)(verb)
app.add_typer(drift_app)

_USERS: Mapping[str, Callable[..., Any]] = {
    "create": users.create,
    "list": users.list_users,
    "password": users.password,
    "logout": users.logout,
    "remove": users.remove,
    "export": users.export,
    "import": users.import_,
}
users_app = typer.Typer(name="users", help="Who may log in to the dashboard.", no_args_is_help=True)
for name, verb in _USERS.items():
    users_app.command(name)(verb)
app.add_typer(users_app)

state_app = typer.Typer(name="state", help="What scorers share in Redis.", no_args_is_help=True)
state_app.command("drop-old-records")(state.drop_old_records)
state_app.command("load-functions")(state.load_functions)
app.add_typer(state_app)

ledger_app = typer.Typer(name="ledger", help="The ledger's database.", no_args_is_help=True)
ledger_app.command("migrate")(workspace.migrate_ledger)
app.add_typer(ledger_app)


_KEYS: Mapping[str, Callable[..., Any]] = {
    "create": keys.create,
    "list": keys.list_,
    "rotate": keys.rotate,
    "revoke": keys.revoke,
}
keys_app = typer.Typer(name="keys", help="Who may call the scoring API.", no_args_is_help=True)
for name, verb in _KEYS.items():
    keys_app.command(name)(verb)
app.add_typer(keys_app)

alerts_app = typer.Typer(
    name="alerts", help="What is wrong, and who is on it.", no_args_is_help=True
)
alerts_app.command("list")(alerts.list_)
alerts_app.command("acknowledge")(alerts.acknowledge)
alerts_app.command("test")(alerts.try_)
alerts_app.command("digest")(alerts.digest)
app.add_typer(alerts_app)


def main() -> None:
    """Entry point of the `sentinel` command."""
    keep_files_private()
    app()
