"""One settings tree: defaults, then ``sentinel.toml``, then ``SENTINEL_`` environment variables.

Nested settings use two underscores in the environment: ``SENTINEL_API__PORT=9000``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class ApiSettings(BaseModel):
    host: str = Field("127.0.0.1", description="Address the scoring API binds to.")
    port: int = Field(8000, description="Port of the scoring API.", ge=1, le=65535)
    max_body_bytes: int = Field(1_000_000, description="Larger bodies get 413.", ge=1_000)
    max_batch: int = Field(10_000, description="Most transactions in one batch request.", ge=1)


class DashboardSettings(BaseModel):
    host: str = Field("127.0.0.1", description="Address the dashboard binds to.")
    port: int = Field(8501, description="Port of the dashboard.", ge=1, le=65535)


class MlflowSettings(BaseModel):
    host: str = Field("127.0.0.1", description="Address the MLflow server binds to.")
    port: int = Field(5000, description="Port of the MLflow server.", ge=1, le=65535)
    tracking_uri: str = Field(
        "", description="An MLflow server run elsewhere; empty: the one that `up` starts."
    )
    experiment: str = Field("sentinel", description="Experiment that training runs go to.")
    model_name: str = Field("sentinel-fraud", description="Name in the model registry.")


class MoneySettings(BaseModel):
    currency: str = Field("EUR", description="Base currency (ISO 4217) of all amounts.")
    scale: int = Field(2, description="Decimals of one unit of the base currency.", ge=0, le=4)


class LedgerSettings(BaseModel):
    url: str = Field("", description="SQLAlchemy-style URL; empty: SQLite in the workspace.")


class StateSettings(BaseModel):
    backend: Literal["embedded"] = Field("embedded", description="Where feature state lives.")
    snapshot_seconds: int = Field(300, description="Time between two state snapshots.", ge=1)


class ScoringSettings(BaseModel):
    reasons: bool = Field(True, description="Give exact reasons with every decision.")


class LabelSettings(BaseModel):
    maturity_days: float = Field(
        30.0, description="An unlabelled transaction counts as legitimate after so many days.", ge=0
    )


class TrainingSettings(BaseModel):
    trainer: Literal["lightgbm", "random_forest"] = Field(
        "lightgbm", description="What candidates are trained with; baselines are always beside it."
    )
    window_days: float = Field(120.0, description="Days of history to train on.", gt=0)
    test_days: float = Field(14.0, description="Days held out to evaluate on.", gt=0)
    alert_budget_per_1000: float = Field(
        5.0, description="Alerts (review + decline) that analysts can take per 1,000.", gt=0
    )
    decline_precision: float = Field(
        0.8, description="Decline only above a score of at least this precision.", gt=0, le=1
    )
    bootstrap_rounds: int = Field(400, description="Bootstrap samples per interval.", ge=50)
    seed: int = Field(7, description="Seed of everything random in training.")


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
        Path("feature_store"), description="Feast repository with the feature definitions."
    )
    api: ApiSettings = ApiSettings()
    dashboard: DashboardSettings = DashboardSettings()
    mlflow: MlflowSettings = MlflowSettings()
    money: MoneySettings = MoneySettings()
    ledger: LedgerSettings = LedgerSettings()
    state: StateSettings = StateSettings()
    scoring: ScoringSettings = ScoringSettings()
    labels: LabelSettings = LabelSettings()
    training: TrainingSettings = TrainingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    # Where each part keeps its files. One place, so that no two parts disagree.
    @property
    def ledger_path(self) -> Path:
        return self.workspace / "ledger.db"

    @property
    def index_path(self) -> Path:
        return self.workspace / "index.db"

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
