"""What to simulate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from sentinel.domain import ConfigurationError
from sentinel.sources.base import DAY_US

_DEFAULT_START: Final = "2024-01-01"
_MAX_ROWS_PER_DAY: Final = 5_000_000


@dataclass(frozen=True)
class SimulatorConfig:
    """Size, time and seed of a simulated world. The same config gives the same world.

    Attributes:
        customers: Number of card holders.
        merchants: Number of merchants.
        days: Length of the history, in days.
        start: First day of the history, ``YYYY-MM-DD``, beginning at midnight UTC.
        seed: Of everything random.
        daily_rate: Mean number of payments per customer and day.
        fraud_rate: Share of payments that are fraud, on average over the year.
        reported_share: Share of frauds that are ever reported.
        false_claim_rate: Share of good payments that are claimed as fraud by mistake; these
            claims are corrected weeks later.
        calendar: The day whose season and wave of crime the first day has, ``YYYY-MM-DD``; empty
            for its own. Two worlds that differ in the start alone are then the same, moved in
            time, if both starts are of one weekday.
        device_ids: "hex" for ids of devices such as ``d-1f3a-92c-b07e``; "number" for those of
            earlier versions, of which one in ten looks like the number of a card.

    Raises:
        ConfigurationError: A value is out of its range.

    >>> SimulatorConfig(days=2, start="2024-03-01").end_us
    1709424000000000
    """

    customers: int = 2_600
    merchants: int = 900
    days: float = 180.0
    start: str = _DEFAULT_START
    seed: int = 7
    daily_rate: float = 0.67
    fraud_rate: float = 0.006
    reported_share: float = 0.87
    false_claim_rate: float = 0.0004
    calendar: str = ""
    device_ids: str = "hex"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("customers", 20, 20_000_000),
            ("merchants", 40, 2_000_000),
            ("days", 0.01, 36_525),
            ("seed", 0, 2**63),
            ("daily_rate", 0.001, 50),
            ("fraud_rate", 0.0, 0.2),
            ("reported_share", 0.0, 1.0),
            ("false_claim_rate", 0.0, 0.1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigurationError(
                    f"The simulator's {name} is {getattr(self, name)!r}; "
                    f"it must be {low:,} to {high:,}."
                )
        for name in ("start", "calendar"):
            try:
                date.fromisoformat(getattr(self, name) or self.start)
            except ValueError:
                raise ConfigurationError(
                    f"The simulator's {name} is {getattr(self, name)!r}; give a day such as "
                    "2024-01-31."
                ) from None
        if self.device_ids not in ("hex", "number"):
            raise ConfigurationError(
                f"The simulator's device_ids is {self.device_ids!r}; it is hex or number."
            )
        if self.customers * self.daily_rate > _MAX_ROWS_PER_DAY:
            raise ConfigurationError(
                f"customers x daily_rate must be at most {_MAX_ROWS_PER_DAY:,} payments a day."
            )

    @classmethod
    def ending(cls, now_us: int, *, days: float = 180.0, **options: object) -> SimulatorConfig:
        """A config whose history ends at a moment and begins at a midnight ``days`` before.

        Args:
            now_us: End of the history, microseconds UTC.
            days: Least length of the history.
            options: Other fields.

        >>> config = SimulatorConfig.ending(1_709_290_800_000_000, days=2)
        >>> config.start, config.days, config.end_us
        ('2024-02-28', 2.4583333333333335, 1709290800000000)
        """
        first_day = int((now_us - days * DAY_US) // DAY_US)
        start = datetime.fromtimestamp(first_day * 86_400, UTC).date().isoformat()
        length = (now_us - first_day * DAY_US) / DAY_US
        return cls(days=length, start=start, **options)  # type: ignore[arg-type]

    @property
    def first_day(self) -> int:
        """Day number of the start, counted from 1970-01-01."""
        return (date.fromisoformat(self.start) - date(1970, 1, 1)).days

    @property
    def calendar_day(self) -> int:
        """Day number whose season and wave of crime the start has, counted from 1970-01-01."""
        return (date.fromisoformat(self.calendar or self.start) - date(1970, 1, 1)).days

    @property
    def start_us(self) -> int:
        """Start of the history, microseconds UTC."""
        return self.first_day * DAY_US

    @property
    def end_us(self) -> int:
        """End of the history (exclusive), microseconds UTC."""
        return self.start_us + round(self.days * DAY_US)
