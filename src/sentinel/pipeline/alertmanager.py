"""Alertmanager, for those who list and acknowledge alerts of a deployment with Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from sentinel.domain import Unavailable

_SECONDS: Final = 10.0


class Alertmanager:
    """Asks Alertmanager's API.

    Args:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that fire, silenced ones too, as Alertmanager has them.

        Raises:
            Unavailable: It does not answer.
        """
        found: list[dict[str, Any]] = self._ask("GET", "/api/v2/alerts")
        return found

    def silences(self) -> list[dict[str, Any]]:
        """Silences that hold.

        Raises:
            Unavailable: It does not answer.
        """
        found = self._ask("GET", "/api/v2/silences")
        return [one for one in found if one["status"]["state"] == "active"]

    def silence(
        self, labels: Mapping[str, str], *, by: str, why: str, from_us: int, until_us: int
    ) -> str:
        """Silence the alert that has these labels; returns the id of the silence.

        Raises:
            Unavailable: It does not answer.
        """
        body = {
            "matchers": [
                {"name": name, "value": value, "isRegex": False, "isEqual": True}
                for name, value in labels.items()
            ],
            "startsAt": _iso(from_us),
            "endsAt": _iso(until_us),
            "createdBy": by,
            "comment": why,
        }
        return str(self._ask("POST", "/api/v2/silences", body)["silenceID"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            with httpx.Client(timeout=_SECONDS, trust_env=False) as client:
                answer = client.request(method, f"{self._url}{path}", json=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"Alertmanager does not answer at {self._url} ({error}); start it, or correct "
                "services.alertmanager_url"
            ) from error
        if answer.is_error:
            raise Unavailable(
                f"Alertmanager answered {answer.status_code} at {self._url}{path}: "
                f"{answer.text.strip()[:200]}"
            )
        try:
            return answer.json()
        except ValueError:
            raise Unavailable(f"what answers at {self._url} is no Alertmanager") from None


def _iso(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat()
