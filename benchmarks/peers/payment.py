"""The 25 fields of a payment as the FastAPI peers take them: flat, validated by pydantic."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import uvicorn
from pydantic import BaseModel, Field

Name = Annotated[str, Field(min_length=1, max_length=128)]


class Payment(BaseModel):
    transaction_id: Name
    amount_minor: Annotated[int, Field(ge=-(10**12), le=10**12)]
    event_time: dt.datetime
    customer_id: Name
    card_id: Name
    merchant_id: Name
    device_id: Name | None = None
    ip_address: Name | None = None
    channel: Name
    mcc: Name
    merchant_country: Name
    entry_mode: Name
    card_type: Name
    currency: Name
    merchant_category: Name
    recurring: bool
    installments: int
    authentication: Name
    card_country: Name
    card_brand: Name
    device_system: Name
    account_age_days: float
    billing_country: Name
    email_domain: Name
    basket_items: int


class Answer(BaseModel):
    transaction_id: str
    is_fraud: bool
    fraud_probability: float
    status: str = "Success"


def serve(app: object, port: int) -> None:
    """Run an ASGI application on the loop, parser and settings that Sentinel's server has."""
    uvicorn.run(
        app,  # type: ignore[arg-type]
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,
    )
