"""Services beside the product: MLflow, Airflow, and those that `doctor` asks."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr


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
