"""The charts, as Vega-Lite. Data and drawing are apart, so that a refresh moves only the data."""

from __future__ import annotations

from typing import Any, Final

HEIGHT: Final = 190

REVIEW: Final = "#e09b2d"
DECLINE: Final = "#d8434e"
CALM: Final = "#7f9fd6"
LINE: Final = "#4a7df0"

_PADDING: Final = {"left": 0, "right": 4, "top": 6, "bottom": 0}
_TIME: Final[dict[str, Any]] = {
    "field": "time_ms",
    "type": "temporal",
    "scale": {"type": "utc"},
    "axis": {"title": None, "format": "%H:%M", "tickCount": 5, "grid": False, "labelFlush": True},
}
_UNFINISHED: Final = {"condition": {"test": "datum.state == 'unfinished'", "value": 0.4}}


def alert_rate(budget_per_1000: float) -> dict[str, Any]:
    """Alerts per 1,000 decisions over time, with the budget of reviews as a dashed line.

    Args:
        budget_per_1000: How many payments analysts can review, per 1,000 decisions.
    """
    rate = {
        "field": "rate",
        "type": "quantitative",
        "axis": {"title": None, "tickCount": 4, "domain": False, "ticks": False},
        "scale": {"domainMin": 0},
    }
    return {
        "height": HEIGHT,
        "padding": _PADDING,
        "layer": [
            {
                "mark": {"type": "area", "color": LINE, "opacity": 0.15, "interpolate": "monotone"},
                "encoding": {"x": _TIME, "y": rate},
            },
            {
                "mark": {
                    "type": "line",
                    "color": LINE,
                    "strokeWidth": 2.2,
                    "interpolate": "monotone",
                    "point": {"size": 22, "filled": True, "color": LINE},
                },
                "encoding": {
                    "x": _TIME,
                    "y": rate,
                    "tooltip": [
                        _when(),
                        _figure("rate", "Alerts per 1,000", ".1f"),
                        _figure("review", "Review", ",d"),
                        _figure("decline", "Declined", ",d"),
                    ],
                },
            },
            {
                "mark": {
                    "type": "rule",
                    "strokeDash": [5, 4],
                    "strokeWidth": 1.3,
                    "color": DECLINE,
                },
                "encoding": {"y": {"datum": budget_per_1000}},
            },
        ],
    }


def decisions_per_minute() -> dict[str, Any]:
    """Decisions per minute; the present minute is pale because it is not over."""
    return {
        "height": HEIGHT,
        "padding": _PADDING,
        "layer": [
            # Unseen marks keep the place of minutes that are not known: no bar is drawn for them.
            {"mark": {"type": "tick", "opacity": 0}, "encoding": {"x": _TIME}},
            {
                "mark": {"type": "rect", "color": CALM, "cornerRadius": 1.5},
                "encoding": {
                    "x": _TIME,
                    "x2": {"field": "until_ms"},
                    "y": {
                        "field": "decisions",
                        "type": "quantitative",
                        "axis": {"title": None, "tickCount": 4, "domain": False, "ticks": False},
                    },
                    "y2": {"datum": 0},
                    "opacity": {**_UNFINISHED, "value": 1},
                    "tooltip": [
                        _when(),
                        _figure("decisions", "Decisions", ",d"),
                        _figure("review", "Review", ",d"),
                        _figure("decline", "Declined", ",d"),
                    ],
                },
            },
        ],
    }


def top_reasons() -> dict[str, Any]:
    """How often a feature weighed heaviest in the latest alerts."""
    y = {
        "field": "reason",
        "type": "nominal",
        "sort": None,
        "axis": {
            "title": None,
            "labelLimit": 210,
            "domain": False,
            "ticks": False,
            "labelPadding": 8,
        },
    }
    x = {"field": "alerts", "type": "quantitative", "axis": None}
    return {
        "height": HEIGHT,
        "padding": _PADDING,
        "layer": [
            {
                "mark": {"type": "bar", "color": REVIEW, "cornerRadiusEnd": 3, "height": 14},
                "encoding": {
                    "y": y,
                    "x": x,
                    "tooltip": [
                        {"field": "feature", "title": "Feature"},
                        _figure("alerts", "Alerts", ",d"),
                    ],
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "color": "#8492a6"},
                "encoding": {"y": y, "x": x, "text": {"field": "alerts", "format": ",d"}},
            },
        ],
    }


def confidence_sequence() -> dict[str, Any]:
    """The challenger's part of the frauds that only one model catches, with its interval, by day.

    The dashed line is one half, where both are worth the same.
    """
    day = {
        "field": "day",
        "type": "quantitative",
        "axis": {"title": "Days of mature payments", "tickMinStep": 1, "grid": False},
    }

    def part(field: str) -> dict[str, Any]:
        return {
            "field": field,
            "type": "quantitative",
            "axis": {"title": None, "format": ".0%", "tickCount": 5, "domain": False},
            "scale": {"domain": [0, 1]},
        }

    seen = [
        {"field": "day", "type": "quantitative", "title": "Day"},
        _figure("part", "Challenger's part", ".1%"),
        _figure("low", "Interval from", ".1%"),
        _figure("high", "Interval to", ".1%"),
        _figure("champion", "Frauds only the champion catches", ",d"),
        _figure("challenger", "Frauds only the challenger catches", ",d"),
    ]
    return {
        "height": 300,
        "padding": _PADDING,
        "layer": [
            {
                "mark": {"type": "area", "color": LINE, "opacity": 0.18},
                "encoding": {"x": day, "y": part("low"), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "line", "color": LINE, "strokeWidth": 2.2, "point": {"size": 22}},
                "encoding": {"x": day, "y": part("part"), "tooltip": seen},
            },
            {
                "mark": {
                    "type": "rule",
                    "strokeDash": [5, 4],
                    "strokeWidth": 1.3,
                    "color": DECLINE,
                },
                "encoding": {"y": {"datum": 0.5}},
            },
        ],
    }


def _when() -> dict[str, str]:
    return {"field": "time_ms", "type": "temporal", "title": "Minute (UTC)", "format": "%H:%M"}


def _figure(field: str, title: str, form: str) -> dict[str, str]:
    return {"field": field, "type": "quantitative", "title": title, "format": form}
