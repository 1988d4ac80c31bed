"""Where things are kept: the log, feature state, Feast's stores, objects."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, SecretStr


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
    monitor_role: str = Field(
        "",
        description="Role that the monitor connects to PostgreSQL as; `sentinel ledger migrate` "
        "grants it reading the log and writing the record of drift, and nothing else. Empty: the "
        "monitor uses the owner of the tables.",
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
