"""One settings tree: defaults, then ``sentinel.toml`` here, then the one in the workspace, then
``SENTINEL_`` environment variables.

Nested settings use two underscores in the environment: ``SENTINEL_API__PORT=9000``. A variable
that ends in ``_FILE`` names a file that holds the value, and keeps a secret out of the
environment: ``SENTINEL_LEDGER__URL_FILE=/run/secrets/ledger_url``.

`deployment` holds the tree; each other file holds the sections of one subject, and `file_sources`
says which values come from files.
"""

from __future__ import annotations

from sentinel.settings.alerting import AlertSettings, DigestSettings
from sentinel.settings.deciding import ExperimentSettings, PolicySettings, ScoringSettings
from sentinel.settings.deployment import Settings, load_settings
from sentinel.settings.drift import DriftSettings
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

__all__ = [
    "AccessSettings",
    "AirflowSettings",
    "AlertSettings",
    "ApiSettings",
    "DashboardSettings",
    "DigestSettings",
    "DriftSettings",
    "ExperimentSettings",
    "FeastSettings",
    "FollowerSettings",
    "LabelSettings",
    "LedgerSettings",
    "LogSettings",
    "MlflowSettings",
    "MoneySettings",
    "MonitorSettings",
    "OnlineSettings",
    "PolicySettings",
    "RetrainingSettings",
    "S3Settings",
    "ScoringSettings",
    "ServicesSettings",
    "Settings",
    "SigningSettings",
    "StateSettings",
    "TokenSettings",
    "TraceSettings",
    "TrainingSettings",
    "load_settings",
]
