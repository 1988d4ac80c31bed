"""Who is told when something goes wrong, and the letters that sum up a day and a week."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, Field, SecretStr, field_validator


class AlertSettings(BaseModel):
    smtp_host: str = Field(
        "",
        description="Mail server that alerts, digests and `sentinel alerts test` go through. "
        "Empty: no mail is sent.",
    )
    smtp_port: int = Field(587, description="Its port.", ge=1, le=65535)
    smtp_tls: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How the connection is kept secret: `starttls` (usually port 587), `tls` from "
        "the first byte (usually 465), or `none`.",
    )
    smtp_user: str = Field("", description="Name for its login; empty: no login.")
    smtp_password: SecretStr = Field(SecretStr(""), description="Belongs to that name.")
    mail_from: str = Field("sentinel@localhost", description="Sender of these e-mails.")
    mail_to: str = Field(
        "", description="Who gets them, with commas between. Empty: no mail is sent."
    )
    webhook_url: SecretStr = Field(
        SecretStr(""),
        description="Address that alerts are posted to as JSON; empty: none. With most services "
        "whoever knows it may post, so that it is a secret: `SENTINEL_ALERTS__WEBHOOK_URL_FILE`.",
    )
    webhook_secret: SecretStr = Field(
        SecretStr(""),
        description="Signs what is posted, see docs/alerts.md; empty: it is not signed.",
    )
    runbooks_url: str = Field(
        "",
        description="Where the folder `docs/runbooks` can be read in a browser; mails link to it. "
        "Empty: they name the file.",
        pattern=r"^(https?://[^\s]+)?$",
    )
    every_seconds: float = Field(
        15.0, description="Pause between two looks at everything that is watched.", gt=0
    )
    window_seconds: float = Field(
        300.0, description="Rates are those of so long a time before a look.", gt=0
    )
    page_after_seconds: float = Field(
        60.0,
        description="An alert of severity `page` fires when its condition has held for so long.",
        ge=0,
    )
    ticket_after_seconds: float = Field(
        600.0, description="The same for alerts of severity `ticket`.", ge=0
    )
    group_seconds: float = Field(
        10.0, description="What changes within so long a time is told in one mail.", ge=0
    )
    interval_seconds: float = Field(
        300.0,
        description="Between two mails, unless an alert fires that was not told of meanwhile.",
        ge=0,
    )
    repeat_page_hours: float = Field(
        1.0, description="A page that fires and nobody acknowledged is told again then.", gt=0
    )
    repeat_ticket_hours: float = Field(12.0, description="The same for tickets.", gt=0)
    disk_path: str = Field(
        "", description="Folder whose file system is watched; empty: the workspace."
    )
    disk_full_share: float = Field(
        0.9, description="Share of it in use from which on the disk is nearly full.", gt=0, le=1
    )

    @field_validator("webhook_url")
    @classmethod
    def _is_url(cls, given: SecretStr) -> SecretStr:
        if not re.fullmatch(r"(https?://[^\s]+)?", given.get_secret_value()):
            raise ValueError("it is no address; one looks like https://example.com/alerts")
        return given


class DigestSettings(BaseModel):
    mail_to: str = Field(
        "",
        description="Who gets the digests, with commas between; empty: `alerts.mail_to`.",
    )
    daily: bool = Field(True, description="Whether there is one for each day.")
    weekly: bool = Field(True, description="Whether there is one for each week, on Mondays.")
    hour: int = Field(7, description="Hour of the day from which on they are sent.", ge=0, le=23)
    timezone: str = Field(
        "UTC", description="Days and hours are those of this place, `Europe/Berlin`."
    )
