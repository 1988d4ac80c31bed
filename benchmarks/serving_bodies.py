"""Requests for `serving`: 25 values a payment, a fresh id and event time each.

Bodies are made once, as templates with two gaps, for whoever sends them: wrk's Lua script and the
open-loop client fill in ids and times that never repeat. Sentinel gets the values nested as its
API has them, FastAPI's routes get the same values flat.
"""

from __future__ import annotations

import datetime as dt
import json
import random
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

from testkit.payments import payments

Layout = Literal["nested", "flat"]

TEMPLATES: Final = 20_000
GAP_US: Final = 700_000
START_US: Final = 1_750_000_000_000_000
_ID: Final = "@ID@"
_TIME: Final = "@TIME@"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def richer(body: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A payment with 25 fields: eight more attributes than `payments` gives."""
    attributes = body["attributes"]
    attributes["authentication"] = rng.choice(("none", "pin", "3ds"))
    attributes["card_country"] = rng.choice(("DE", "DE", "DE", "AT", "PL"))
    attributes["card_brand"] = rng.choice(("visa", "mastercard"))
    attributes["device_system"] = rng.choice(("ios", "android", "windows"))
    attributes["account_age_days"] = rng.randrange(3_000)
    attributes["billing_country"] = attributes["card_country"]
    attributes["email_domain"] = rng.choice(("gmail.com", "gmx.de", "web.de"))
    attributes["basket_items"] = rng.randrange(1, 20)
    return body


def write_templates(folder: Path, seed: int = 1, number: int = TEMPLATES) -> None:
    """Write ``nested.txt`` and ``flat.txt``, a template a line.

    A line is: microseconds the event is late, text before the id, between id and time, and after
    the time, separated by tabs.
    """
    rng = random.Random(seed)
    newest = ""
    with (folder / "nested.txt").open("w") as nested, (folder / "flat.txt").open("w") as flat:
        for body in islice(payments(seed, gap_us=GAP_US), number):
            moment = body["event_time"]
            newest = max(newest, moment)
            late = dt.datetime.fromisoformat(newest) - dt.datetime.fromisoformat(moment)
            body = richer({**body, "transaction_id": _ID, "event_time": _TIME}, rng)
            rest = {key: value for key, value in body.items() if key != "attributes"}
            for file, content in ((nested, body), (flat, {**rest, **body["attributes"]})):
                text = json.dumps(content, separators=(",", ":"))
                head, _, more = text.partition(_ID)
                middle, _, tail = more.partition(_TIME)
                late_us = late // dt.timedelta(microseconds=1)
                file.write(f"{late_us}\t{head}\t{middle}\t{tail}\n")


@dataclass(frozen=True)
class Template:
    """A body with gaps for id and event time."""

    late_us: int
    head: str
    middle: str
    tail: str

    def body(self, number: int, prefix: str) -> bytes:
        """The body of the payment of that number."""
        moment = _EPOCH + dt.timedelta(microseconds=START_US + number * GAP_US - self.late_us)
        return (
            f"{self.head}{prefix}-{number}{self.middle}{moment:%Y-%m-%dT%H:%M:%S.%fZ}{self.tail}"
        ).encode()


def read_templates(path: Path) -> list[Template]:
    """What `write_templates` wrote."""
    rows = (line.split("\t") for line in path.read_text().splitlines())
    return [Template(int(late), head, middle, tail) for late, head, middle, tail in rows]


def http_request(path: str, body: bytes) -> bytes:
    """A POST as it goes over the wire, the same bytes as wrk's script sends."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
