"""How the values of a payment are read: money and tokens."""

from __future__ import annotations

from pydantic import BaseModel, Field, SecretStr


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
