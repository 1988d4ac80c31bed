"""The whole tree, and where each part of a workspace has its files."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sentinel.settings.alerting import AlertSettings, DigestSettings
from sentinel.settings.deciding import ExperimentSettings, PolicySettings, ScoringSettings
from sentinel.settings.drift import DriftSettings
from sentinel.settings.file_sources import SecretFileSource, WorkspaceFileSource
from sentinel.settings.interfaces import AccessSettings, ApiSettings, DashboardSettings
from sentinel.settings.learning import (
    LabelSettings,
    OnlineSettings,
    RetrainingSettings,
    SigningSettings,
    TrainingSettings,
)
from sentinel.settings.monitoring import FollowerSettings, MonitorSettings
from sentinel.settings.payment_values import MoneySettings, TokenSettings
from sentinel.settings.services import AirflowSettings, MlflowSettings, ServicesSettings
from sentinel.settings.storage import FeastSettings, LedgerSettings, S3Settings, StateSettings
from sentinel.settings.telemetry import LogSettings, TraceSettings


class Settings(BaseSettings):
    """All settings of a deployment."""

    model_config = SettingsConfigDict(
        env_prefix="SENTINEL_",
        env_nested_delimiter="__",
        toml_file="sentinel.toml",
        extra="forbid",
        hide_input_in_errors=True,  # a secret may be what is wrong
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
    retraining: RetrainingSettings = RetrainingSettings()
    online: OnlineSettings = OnlineSettings()
    drift: DriftSettings = DriftSettings()
    services: ServicesSettings = ServicesSettings()
    signing: SigningSettings = SigningSettings()
    airflow: AirflowSettings = AirflowSettings()
    monitor: MonitorSettings = MonitorSettings()
    follower: FollowerSettings = FollowerSettings()
    logs: LogSettings = LogSettings()
    alerts: AlertSettings = AlertSettings()
    digest: DigestSettings = DigestSettings()
    traces: TraceSettings = TraceSettings()

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
    def alerts_path(self) -> Path:
        """The file of the alerts of a deployment without Prometheus."""
        return self.workspace / "alerts.db"

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
