"""What people and programs reach the product by: the API, its keys, the dashboard."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr


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
    metrics_port: int = Field(
        0,
        description="Port of the dashboard's own `/metrics`, at the address it binds to; 0: none.",
        ge=0,
        le=65535,
    )
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
