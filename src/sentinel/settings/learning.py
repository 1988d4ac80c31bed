"""How models are made: labels, training, signatures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, SecretStr


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
        description="What candidates are trained with: `lightgbm`, `xgboost`, `random-forest`, "
        "`lightgbm-forest`, or a family that another package adds. Baselines are always beside it.",
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
    fraud_weight: float = Field(
        1.0,
        description="How many times a fraud counts in the fit, against a good payment. The "
        "calibration, which counts both alike, brings probabilities back to what they are.",
        gt=0,
        le=1_000,
    )
    bootstrap_rounds: int = Field(400, description="Bootstrap samples per interval.", ge=50)
    seed: int = Field(7, description="Seed of everything random in training.")


class RetrainingSettings(BaseModel):
    every_days: int = Field(
        1,
        description="Days between trainings on schedule. 1: every time that it is asked, which the "
        "nightly pipeline does every night; 0: never on schedule.",
        ge=0,
        le=366,
    )
    matured_frauds: int = Field(
        0,
        description="Train once so many frauds have matured since the last training; 0: however "
        "many have.",
        ge=0,
    )
    on_drift: bool = Field(True, description="Train when drift is reported.")


class OnlineSettings(BaseModel):
    learn: bool = Field(
        False, description="Have the nightly pipeline bring the online learners up to date."
    )
    shadow: bool = Field(
        False,
        description="Register the refitted trees after each run, and have them score every payment "
        "as shadow `online`.",
    )
    keep: float = Field(
        0.9,
        description="Share of its present value that each leaf keeps on a day of online learning.",
        ge=0,
        le=1,
    )
    window_days: float = Field(
        365.0, description="Days of known truth that a day's refit of the leaves sees.", gt=0
    )


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
    approvers: str = Field(
        "",
        description="Public keys one of which must approve a version before it becomes champion, "
        "with spaces or commas between; `sentinel models approve`. The key that signed the version "
        "does not count. Empty: no approval is asked for.",
    )
