"""One settings tree: defaults, then ``sentinel.toml`` here, then the one in the workspace, then
``SENTINEL_`` environment variables.

Nested settings use two underscores in the environment: ``SENTINEL_API__PORT=9000``. A variable
that ends in ``_FILE`` names a file that holds the value, and keeps a secret out of the
environment: ``SENTINEL_LEDGER__URL_FILE=/run/secrets/ledger_url``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sentinel.domain import ConfigurationError


class ApiSettings(BaseModel):
    host: str = Field("127.0.0.1", description="Address the scoring API binds to.")
    port: int = Field(8000, description="Port of the scoring API.", ge=1, le=65535)
    max_body_bytes: int = Field(1_000_000, description="Larger bodies get 413.", ge=1_000)
    max_batch: int = Field(10_000, description="Most transactions in one batch request.", ge=1)
    readers: int = Field(
        4, description="Look-ups of decisions that are answered at once.", ge=1, le=64
    )
    readers_waiting: int = Field(
        32, description="Look-ups that may wait for that; beyond it they get 429.", ge=0
    )
    reader_seconds: float = Field(
        2.0, description="A look-up that takes longer is ended with 503.", gt=0, le=60
    )
    allowed_hosts: str = Field(
        "",
        description="Further names that clients may call the scoring API by, with commas between: "
        "`api,*.example.com`; `*`: any. Loopback names and the address itself are always known; "
        "other names get 421.",
    )
    admin_port: int = Field(
        0,
        description="Port of `/metrics` and `/docs`, which are then not at `api.port`; 0: they "
        "are there.",
        ge=0,
        le=65535,
    )
    max_connections: int = Field(
        4_096,
        description="Connections at once, as far as the process may have so many open files; "
        "further ones get 503.",
        ge=8,
    )
    max_buffered_bytes: int = Field(
        33_554_432,
        description="Bytes of requests that are coming in, over all connections. Beyond it, the "
        "largest and slowest get 503. A single body may always have its own limit.",
        ge=1_048_576,
    )
    head_seconds: float = Field(
        5.0, description="A head that takes longer to come in gets 408.", gt=0
    )
    body_seconds: float = Field(
        15.0, description="A body that takes longer to come in gets 408.", gt=0
    )
    answer_seconds: float = Field(
        15.0, description="A client that takes longer to read an answer is cut off.", gt=0
    )
    idle_seconds: float = Field(
        75.0, description="A connection without a request for so long is ended.", gt=0
    )


class AccessSettings(BaseModel):
    key: SecretStr = Field(
        SecretStr(""),
        description="Key that this deployment's own clients send to the scoring API: live traffic, "
        "the dashboard, `doctor`. Empty: `access.key` in the workspace, where there is one.",
    )
    pepper: SecretStr = Field(
        SecretStr(""),
        description="What the hashes of keys are made with; empty: `access.pepper` in the "
        "workspace, made with the first key. Scorers that share a ledger need the same one.",
    )
    outage_seconds: float = Field(
        300.0,
        description="How long keys stay good while the place that keeps them cannot be reached; "
        "then every caller gets 503.",
        ge=0,
    )
    requests_per_minute: int = Field(
        0,
        description="Requests that a key may send in a minute, unless it says otherwise; more get "
        "429. 0: no limit.",
        ge=0,
    )
    payments_per_minute: int = Field(
        0, description="The same for payments, those of batches counted one by one.", ge=0
    )
    limit_addresses: bool = Field(
        False,
        description="Whether callers without a key have these limits by their address. Behind a "
        "proxy all have the proxy's.",
    )


class DashboardSettings(BaseModel):
    host: str = Field("127.0.0.1", description="Address the dashboard binds to.")
    port: int = Field(8501, description="Port of the dashboard.", ge=1, le=65535)
    metrics_url: str = Field(
        "",
        description="Where a scorer counts; empty: at the scoring API, or at its admin port where "
        "it has one.",
    )
    public_url: str = Field(
        "",
        description="Address that browsers use, `https://fraud.example.com`. With https, cookies "
        "are sent by TLS alone. Needed behind a proxy and for a login by an identity provider.",
        pattern=r"^(https?://[^/?#@\s]+)?/?$",
    )
    proxies: str = Field(
        "",
        description="Addresses or networks of proxies, with commas between, whose "
        "`X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
    )
    session_hours: float = Field(
        12.0, description="A session ends so long after its login.", gt=0, le=720
    )
    session_idle_minutes: float = Field(
        60.0, description="A session without an open page ends after so long.", gt=0
    )
    oidc_metadata_url: str = Field(
        "",
        description="Where an identity provider describes itself, "
        "`https://id.example.com/.well-known/openid-configuration`; empty: no login by one.",
    )
    oidc_client_id: str = Field("", description="The dashboard's name at the identity provider.")
    oidc_client_secret: SecretStr = Field(SecretStr(""), description="Belongs to that name.")
    oidc_users: str = Field(
        "",
        description="Who of those whom the provider knows may come in, with commas between: "
        "`ann@example.com`, `@example.com` for all of a domain, `*` for everybody.",
    )
    oidc_claim: str = Field(
        "email",
        description="Claim that names the user. `email` counts only if the provider says that it "
        "verified it.",
    )
    oidc_button: str = Field(
        "Log in with your organisation", description="What the button of the login says."
    )


class MlflowSettings(BaseModel):
    host: str = Field("127.0.0.1", description="Address the MLflow server binds to.")
    port: int = Field(5000, description="Port of the MLflow server.", ge=1, le=65535)
    tracking_uri: str = Field(
        "", description="An MLflow server run elsewhere; empty: the one that `up` starts."
    )
    experiment: str = Field("sentinel", description="Experiment that training runs go to.")
    model_name: str = Field("sentinel-fraud", description="Name in the model registry.")
    keep_days: float = Field(
        90.0,
        description="Days for which a model that serves no more stays on disk, "
        "so that its decisions can be explained; later it is fetched from the registry.",
        ge=0,
    )
    backend_store_uri: SecretStr = Field(
        SecretStr(""),
        description="Database of the MLflow server, `postgresql://user@host/name`; made where it "
        "is missing. Empty: SQLite in the workspace.",
    )
    artifacts_destination: str = Field(
        "",
        description="Where the MLflow server keeps files: a folder or `s3://bucket/path`. Empty: "
        "`s3.artifacts_bucket`, or the workspace where that is empty too.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names that clients may call the MLflow server by, with commas between: "
        "`mlflow,mlflow:5000`. Empty: localhost and private addresses.",
    )
    workers: int = Field(1, description="Processes of the MLflow server.", ge=1, le=64)
    start_seconds: float = Field(
        120.0,
        description="How long `sentinel mlflow` waits for its database and its S3 server.",
        ge=0,
    )


class S3Settings(BaseModel):
    endpoint_url: str = Field(
        "",
        description="An S3 server, `http://s3:8333`; empty: what `AWS_ENDPOINT_URL_S3` or "
        "`AWS_ENDPOINT_URL` names, else AWS.",
    )
    region: str = Field("us-east-1", description="Region of the buckets.")
    access_key_id: str = Field(
        "",
        description="Empty: what the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, "
        "`AWS_SESSION_TOKEN`), a profile or the machine's role gives.",
    )
    secret_access_key: SecretStr = Field(SecretStr(""), description="Belongs to the key id.")
    addressing: Literal["auto", "path", "virtual"] = Field(
        "auto",
        description="Bucket in the path or in the host name; auto: in the path, except at AWS.",
    )
    artifacts_bucket: str = Field(
        "", description="Bucket of MLflow's files; empty: they stay in the workspace."
    )
    offline_bucket: str = Field(
        "", description="Bucket that `sentinel export` fills; empty: the workspace's folder."
    )
    offline_prefix: str = Field("offline", description="Where in that bucket.")
    create_buckets: bool = Field(True, description="Make a bucket where it is missing.")
    timeout_seconds: float = Field(
        20.0, description="S3 is away if it keeps silent for so long.", gt=0
    )


class MoneySettings(BaseModel):
    currency: str = Field("EUR", description="Base currency (ISO 4217) of all amounts.")
    scale: int = Field(2, description="Decimals of one unit of the base currency.", ge=0, le=4)


class TokenSettings(BaseModel):
    secret: SecretStr = Field(
        SecretStr(""),
        description="Key of the tokens that replace ids; empty: `tokens.secret` in the workspace, "
        "made on first use. Scorers that share a ledger need the same one.",
    )
    fields: str = Field(
        "",
        description="Fields that are tokenised at every door, with commas between, beside those "
        "that an import's mapping tokenises: `card_id,attributes.email`.",
    )
    exempt: str = Field(
        "",
        description="Fields whose values look like card numbers and are none: "
        "`attributes.ref_no,transaction_id`.",
    )


class LedgerSettings(BaseModel):
    url: str = Field(
        "",
        description="`postgresql://user@host/database`, or empty: SQLite in the workspace. A "
        "password is better kept in `PGPASSWORD` or `~/.pgpass`.",
        repr=False,
    )
    namespace: str = Field(
        "sentinel", description="PostgreSQL schema of the ledger's tables.", pattern="^[a-z_0-9]+$"
    )
    scorer_role: str = Field(
        "",
        description="Role that scorers connect to PostgreSQL as; `sentinel ledger migrate` grants "
        "it reading and inserting, and nothing else. Empty: scorers use the owner of the tables.",
    )
    group_format: Literal[1, 2] = Field(
        2,
        description="Format of the decisions that are written. 1 while scorers of a version that "
        "reads no other run beside this one: policy, rules, roles and callers are not recorded "
        "then.",
    )
    retry_seconds: float = Field(
        30.0, description="How long an append outlasts a PostgreSQL that is gone.", ge=0
    )
    connect_seconds: int = Field(5, description="Longest wait for a connection.", ge=2)
    statement_seconds: float = Field(
        60.0, description="A statement of the ledger that takes longer is cancelled.", gt=0
    )


class StateSettings(BaseModel):
    backend: Literal["embedded", "redis"] = Field(
        "embedded",
        description="Where feature state lives: in the scorer, or in Redis for many scorers.",
    )
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis 7 or newer that holds feature state; any node of a cluster.",
    )
    redis_prefix: str = Field(
        "sentinel", description="Begins every key, so that deployments can share a Redis."
    )
    timeout_ms: int = Field(
        100, description="Without an answer of Redis for so long, decide without state.", ge=1
    )
    snapshot_seconds: int = Field(300, description="Time between two state snapshots.", ge=1)
    max_mb: int = Field(
        0,
        description="Budget of feature state in MB. At it, payments make no records of new "
        "entities, and those that name some are degraded. 0: half of the memory that the process "
        "may use, or nine tenths of Redis' maxmemory.",
        ge=0,
    )
    new_entities_per_minute: int = Field(
        0,
        description="New entities that a sender may add a minute, and in one batch a hundred times "
        "as many; a batch beyond it gets 429. 0: a thousandth of what the budget holds.",
        ge=0,
    )


class FeastSettings(BaseModel):
    registry_url: str = Field(
        "",
        description="Database of Feast's registry, `postgresql://user@host/name`; empty: a file in "
        "the workspace.",
        repr=False,
    )
    online_url: str = Field(
        "",
        description="Redis of Feast's online store, `redis://host:6379/1`; empty: SQLite in the "
        "workspace.",
        repr=False,
    )
    offline_url: str = Field(
        "",
        description="Where materialized views are kept as Parquet: a folder or `s3://bucket/path`; "
        "empty: the workspace.",
    )


class ScoringSettings(BaseModel):
    reasons: bool = Field(True, description="Give exact reasons with every decision.")
    waiting_payments: int = Field(
        10_000, description="Most single payments that wait for a decision; more get 429.", ge=1
    )
    waiting_batched: int = Field(
        50_000, description="The same for payments of batches. One batch alone may be larger.", ge=1
    )


class PolicySettings(BaseModel):
    degraded: Literal["approve", "review", "decline", "bands"] = Field(
        "approve",
        description="Outcome of a payment whose feature state could not be read. `bands`: by its "
        "probability, against the two lines below.",
    )
    degraded_review: float | None = Field(
        None, description="`bands`: a review from this probability on.", ge=0, le=1
    )
    degraded_decline: float | None = Field(
        None, description="`bands`: a decline from this probability on.", ge=0, le=1
    )
    control_group_secret: SecretStr = Field(
        SecretStr(""),
        description="Key of the draws of the control group; empty: `control_group.secret` in the "
        "workspace, made on first use. Scorers that share a ledger need the same one.",
    )


class ExperimentSettings(BaseModel):
    promote: bool = Field(
        True,
        description="Whether the nightly run makes a challenger champion that was shown to catch "
        "more fraud; `sentinel experiment promote` does it by hand.",
    )
    stop: bool = Field(
        True,
        description="Whether the nightly run ends an experiment whose challenger catches less, or "
        "that cannot be decided in time.",
    )
    most_days: int = Field(
        180,
        description="Days of mature payments that an experiment may take.",
        ge=1,
        le=3_650,
    )


class LabelSettings(BaseModel):
    maturity_days: float = Field(
        30.0,
        description="An unlabelled transaction counts as legitimate after so many days. Where it "
        "is not set and labels always came sooner, the longest delay counts.",
        ge=0,
    )
    max_silence_days: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto",
        description="Training stops where no label has arrived for so many days before the end of "
        "the log, since unlabelled frauds would count as legitimate; auto: twice the longest pause "
        "that is usual here, weekends included, and a day at least.",
    )


class TrainingSettings(BaseModel):
    trainer: str = Field(
        "lightgbm",
        description="What candidates are trained with: `lightgbm`, `xgboost`, `random-forest`, or "
        "a family that another package adds. Baselines are always beside it.",
        pattern="^[a-z][a-z0-9_-]*$",
    )
    window_days: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto",
        description="Days of history to train on; auto: all that is mature, unless recent data "
        "proves better on validation folds.",
    )
    test_days: float = Field(
        14.0,
        description="Days held out to evaluate on; fewer where the history is short, more where "
        "frauds are few.",
        gt=0,
    )
    max_rows: int = Field(
        400_000,
        description="Most payments to fit on: all frauds, and of the good ones a sample that "
        "counts for all of them.",
        ge=1_000,
    )
    alert_budget_per_1000: float = Field(
        5.0, description="Payments that analysts can review per 1,000; declines are apart.", gt=0
    )
    decline_precision: float = Field(
        0.8,
        description="Decline where a payment is fraud with at least this probability.",
        gt=0,
        le=1,
    )
    state_dropout: float = Field(
        0.01,
        description="Share of the payments fitted on whose state is hidden, so that a model knows "
        "degraded decisions before it serves them.",
        ge=0,
        le=0.5,
    )
    bootstrap_rounds: int = Field(400, description="Bootstrap samples per interval.", ge=50)
    seed: int = Field(7, description="Seed of everything random in training.")


class SigningSettings(BaseModel):
    private_key: SecretStr = Field(
        SecretStr(""),
        description="Key that signs models, 64 hex digits; only training and promotion need it. "
        "Empty: `signing.key` in the workspace, made on first use.",
    )
    trusted_keys: str = Field(
        "",
        description="Public keys whose models may serve, with spaces or commas between: "
        "`ed25519:...`, as `sentinel models signing-key` prints them. Empty: those in "
        "`signing.pub` of the workspace.",
    )


class AirflowSettings(BaseModel):
    mail_to: str = Field(
        "", description="Who is told of failed runs and refused candidates, separated by commas."
    )
    mail_from: str = Field("sentinel@localhost", description="Sender of these e-mails.")
    retries: int = Field(3, description="Retries of a task that failed.", ge=0)
    retry_seconds: float = Field(
        60.0, description="Pause before the first retry; each further one is twice as long.", gt=0
    )
    timeout_minutes: float = Field(
        120.0, description="A task that takes longer is ended and counts as failed.", gt=0
    )


class ServicesSettings(BaseModel):
    proxy_url: str = Field(
        "",
        description="Proxy in front of the scorers. `sentinel doctor` asks it and the next four.",
    )
    airflow_url: str = Field("", description="Airflow's API server; empty: none here.")
    prometheus_url: str = Field("", description="Prometheus; empty: none here.")
    alertmanager_url: str = Field("", description="Alertmanager; empty: none here.")
    grafana_url: str = Field("", description="Grafana; empty: none here.")


class SecretFileSource(EnvSettingsSource):
    """Values from the files that ``SENTINEL_..._FILE`` variables name.

    Raises:
        ConfigurationError: A file cannot be read, a variable names no setting, or the value is
            given twice.
    """

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        known = set(_variables(settings_cls))
        values: dict[str, str | None] = {}
        for name, path in sorted(os.environ.items()):
            variable = name.upper().removesuffix("_FILE")
            if variable == name.upper() or not variable.startswith("SENTINEL_"):
                continue
            if variable not in known:
                raise ConfigurationError(
                    f"{name} is set, but {variable} is no setting. See docs/settings.md."
                )
            if variable in os.environ:
                raise ConfigurationError(f"{name} and {variable} are both set. Keep one of them.")
            try:
                values[variable.lower()] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(
                    f"{name} names {path}, which cannot be read ({error}). Make the file readable "
                    "for this process, or unset the variable."
                ) from None
        self.env_vars = values


class WorkspaceFileSource(TomlConfigSettingsSource):
    """Values from the ``sentinel.toml`` of the workspace: what its data needs.

    A folder of feature definitions is named relative to the workspace.

    Args:
        settings_cls: The settings.
        stronger: What names the workspace, the strongest first.

    Raises:
        ConfigurationError: The file names another workspace.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], stronger: tuple[PydanticBaseSettingsSource, ...]
    ) -> None:
        named = next((found for source in stronger if (found := source().get("workspace"))), None)
        default = settings_cls.model_fields["workspace"].default
        folder = Path(named if named is not None else default)
        path = folder / "sentinel.toml"
        here = Path("sentinel.toml")
        there = path.is_file() and not (here.exists() and path.samefile(here))
        super().__init__(settings_cls, path if there else Path("/nonexistent/sentinel.toml"))
        if "workspace" in self.init_kwargs:
            raise ConfigurationError(
                f"{path} names a workspace, but it belongs to the one that it lies in. Remove the "
                "line."
            )
        if "feature_store" in self.init_kwargs:
            self.init_kwargs["feature_store"] = folder / str(self.init_kwargs["feature_store"])


def _variables(model: type[BaseModel], prefix: str = "SENTINEL_") -> Iterator[str]:
    """Environment variables of all settings."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper()


class Settings(BaseSettings):
    """All settings of a deployment."""

    model_config = SettingsConfigDict(
        env_prefix="SENTINEL_",
        env_nested_delimiter="__",
        toml_file="sentinel.toml",
        extra="forbid",
    )

    workspace: Path = Field(
        Path(".sentinel"), description="Folder that holds ledger, state, models and logs."
    )
    feature_store: Path = Field(
        Path("feature_store"),
        description="Feast repository with the feature definitions. Where it is not set, the "
        "workspace's `feature_store` comes first, and is made where there is neither.",
    )
    api: ApiSettings = ApiSettings()
    access: AccessSettings = AccessSettings()
    dashboard: DashboardSettings = DashboardSettings()
    mlflow: MlflowSettings = MlflowSettings()
    s3: S3Settings = S3Settings()
    money: MoneySettings = MoneySettings()
    tokens: TokenSettings = TokenSettings()
    ledger: LedgerSettings = LedgerSettings()
    state: StateSettings = StateSettings()
    feast: FeastSettings = FeastSettings()
    scoring: ScoringSettings = ScoringSettings()
    policy: PolicySettings = PolicySettings()
    experiments: ExperimentSettings = ExperimentSettings()
    labels: LabelSettings = LabelSettings()
    training: TrainingSettings = TrainingSettings()
    services: ServicesSettings = ServicesSettings()
    signing: SigningSettings = SigningSettings()
    airflow: AirflowSettings = AirflowSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        secret_files = SecretFileSource(settings_cls)
        here = TomlConfigSettingsSource(settings_cls)
        stronger = (init_settings, env_settings, secret_files)
        workspace = WorkspaceFileSource(settings_cls, (*stronger, here))
        return *stronger, workspace, here

    # Where each part keeps its files. One place, so that no two parts disagree.
    @property
    def ledger_path(self) -> Path:
        return self.workspace / "ledger.db"

    @property
    def index_path(self) -> Path:
        return self.workspace / "index.db"

    @property
    def own_definitions_dir(self) -> Path:
        """The folder of definitions that is the workspace's own, whether or not it is there."""
        return self.workspace / "feature_store"

    @property
    def dashboard_path(self) -> Path:
        """The file of the dashboard's users and sessions."""
        return self.workspace / "dashboard.db"

    @property
    def definitions_dir(self) -> Path:
        """The Feast repository: what is set, else the workspace's own, else the one here.

        Where there is none, it is the workspace's own: `sentinel.feature_sets.ensure` makes it.
        """
        if "feature_store" in self.model_fields_set:
            return self.feature_store
        own = self.own_definitions_dir
        return own if own.is_dir() or not self.feature_store.is_dir() else self.feature_store

    @property
    def plan_path(self) -> Path:
        return self.workspace / "plan.json"

    @property
    def state_dir(self) -> Path:
        return self.workspace / "state"

    @property
    def models_dir(self) -> Path:
        return self.workspace / "models"

    @property
    def offline_dir(self) -> Path:
        return self.workspace / "offline"

    @property
    def tracking_uri(self) -> str:
        return self.mlflow.tracking_uri or f"http://{self.mlflow.host}:{self.mlflow.port}"


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
