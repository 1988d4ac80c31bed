"""The line-up: all experiments that run now, as one versioned document.

An experiment gives a version of the registry a role beside the champion, which decides unless
another one does:

- a *challenger* decides on a share of the cards or customers, and scores all payments;
- a *shadow* scores all payments or a sample, and never decides;
- a *segment* model decides on the payments that a condition holds for.

A canary is a challenger that begins with a small share and grows by itself, while its model runs
(`sentinel.experiments.growth`). A version of the line-up is never changed: starting, changing and
stopping an experiment each make another one.
"""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

import msgspec

from sentinel.documents.store import Document, decode_document
from sentinel.domain import ConfigurationError, NotFound
from sentinel.experiments.conditions import compile_condition

LINE_UP_FORMAT: Final = 1
MOST_EXPERIMENTS: Final = 8
"""Experiments that run at once."""
MOST_SHARE: Final = 0.95
"""The largest share of a challenger: the others are what it is compared with."""
APPROVED_SHARE: Final = 0.5
"""A challenger that decides on more than this share is approved as a champion is."""
CANARY_SHARE: Final = 0.01
"""The largest share that a canary begins with."""
CANARY_HOLD_SECONDS: Final = 3600.0
CANARY_GROWTH: Final = 5.0
MOST_TEXT: Final = 1_000
"""Characters of a condition, and of the reasons that people give."""

Kind = Literal["challenger", "shadow", "segment"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TAKEN: Final = ("champion", "share", "history")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """How a challenger begins small.

    Attributes:
        first_share: Its share at the start, at most `CANARY_SHARE`.
        hold_seconds: So long it stays at a share.
        growth: So many times as large is the next share, up to that of the experiment.
        grew_at_us: When its share grew, microseconds UTC, oldest first: a scorer notes a step once
            its model has run there at a share for `hold_seconds`. None for a canary of a line-up
            from before such notes, whose share grows by the clock.
    """

    first_share: float = CANARY_SHARE
    hold_seconds: float = CANARY_HOLD_SECONDS
    growth: float = CANARY_GROWTH
    grew_at_us: tuple[int, ...] | None = None

    def share_at(self, now_us: int, started_at_us: int, most: float) -> float:
        """The share at a time, at most ``most``.

        >>> grown = Canary(grew_at_us=(50, 70))
        >>> [grown.share_at(now, 1, 0.5) for now in (49, 50, 70, 10**18)]
        [0.01, 0.05, 0.25, 0.25]
        """
        if self.grew_at_us is None:
            return self.share_after(max(0.0, (now_us - started_at_us) / 1e6), most)
        steps = sum(at_us <= now_us for at_us in self.grew_at_us)
        return min(self.first_share * self.growth**steps, most)

    def share_after(self, seconds: float, most: float) -> float:
        """The share after so long a time by the clock, at most ``most``.

        >>> [Canary().share_after(hours * 3600, 0.5) for hours in (0, 0.9, 1, 2, 3)]
        [0.01, 0.01, 0.05, 0.25, 0.5]
        """
        share = min(self.first_share, most)
        left = seconds
        while left >= self.hold_seconds and share < most:
            share = min(share * self.growth, most)
            left -= self.hold_seconds
        return share


class Guardrails(msgspec.Struct, frozen=True, kw_only=True):
    """What stops an experiment by itself, without any label. None or 0 switches one off.

    Attributes:
        most_alert_ratio: Reviews and declines of its payments, as a share, against those of the
            champion's.
        most_errors: Groups of payments in which its model failed.
        most_score_distance: Between the distributions of its probabilities and the champion's, on
            the same payments: the largest distance of the two, from 0 to 1.
        most_degraded_ratio: Its share of degraded decisions against that of the champion's.
        most_scoring_us: Microseconds that its model may take for a payment, in the mean.
        least_payments: So many payments it must have scored before distributions and times are
            looked at.
    """

    most_alert_ratio: float | None = 3.0
    most_errors: int = 1
    most_score_distance: float | None = None
    most_degraded_ratio: float | None = 3.0
    most_scoring_us: float | None = None
    least_payments: int = 200


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A version of the registry that scores beside the champion.

    Attributes:
        name: Names it in the log, and draws its cards: another name draws others.
        kind: Its role.
        version: Of the registry.
        share: Of a challenger: the share of cards that it decides on, among those that experiments
            before it left. 0 for others.
        condition: Of a segment model; see `sentinel.experiments.conditions`.
        sample: Of a shadow: the share of cards that it scores.
        started_at_us: When, microseconds UTC. Experiments are asked in this order.
        canary: Of a challenger that begins small.
        guardrails: What stops it by itself.
        by: Who started it.
        why: In their words.
    """

    name: str
    kind: Kind
    version: str
    share: float = 0.0
    condition: str = ""
    sample: float = 1.0
    started_at_us: int = 0
    canary: Canary | None = None
    guardrails: Guardrails = Guardrails()
    by: str = ""
    why: str = ""

    @property
    def decides(self) -> bool:
        """Whether its model decides on some payments."""
        return self.kind != "shadow"

    @property
    def decides_on_most(self) -> bool:
        """Whether its model may decide on most payments, and needs approval as a champion does.

        A condition may hold for any share of the payments, so every segment model counts.
        """
        return self.kind == "segment" or self.share > APPROVED_SHARE

    def share_at(self, now_us: int) -> float:
        """The share at a time: a canary grows by itself, while its model runs."""
        if self.canary is None:
            return self.share
        return self.canary.share_at(now_us, self.started_at_us, self.share)

    def check(self) -> None:
        """Raise ConfigurationError if something of it cannot be."""
        if not may_be_name(self.name):
            raise ConfigurationError(
                f"{self.name!r} is no name for an experiment. A name has up to 64 of a-z, 0-9, "
                "'-', '_' and '.', begins with a letter or a digit, and is none of "
                f"{', '.join(_TAKEN)}."
            )
        where = f"Experiment {self.name!r}"
        if not _VERSION.fullmatch(self.version):
            raise ConfigurationError(
                f"{where}: {self.version!r} is no version of the registry; `GET /models` lists "
                "those that there are."
            )
        if self.kind == "challenger" and not 0.0 < self.share <= MOST_SHARE:
            raise ConfigurationError(
                f"{where}: the share is {self.share:g}; a challenger takes more than 0 and at most "
                f"{MOST_SHARE:g}, so that the champion decides on the others."
            )
        if self.kind != "challenger" and (self.share or self.canary is not None):
            raise ConfigurationError(
                f"{where} is a {self.kind}, and only a challenger has a share. A shadow has a "
                "sample, a segment model a condition."
            )
        if not 0.0 < self.sample <= 1.0 or (self.sample < 1.0 and self.kind != "shadow"):
            raise ConfigurationError(
                f"{where}: the sample is {self.sample:g}. A shadow scores more than 0 and at most "
                "1 of all; others are not sampled."
            )
        if (self.kind == "segment") != bool(self.condition.strip()):
            raise ConfigurationError(
                f"{where}: a segment model needs a condition, such as "
                "'attributes.channel == \"online\"', and no other role has one."
            )
        if max(len(self.condition), len(self.why)) > MOST_TEXT:
            raise ConfigurationError(f"{where}: a text has at most {MOST_TEXT:,} characters.")
        if self.condition:
            compile_condition(self.condition)
        canary = self.canary
        if canary is not None and not (
            0.0 < canary.first_share <= CANARY_SHARE
            and canary.hold_seconds > 0
            and canary.growth > 1
        ):
            raise ConfigurationError(
                f"{where}: a canary begins with more than 0 and at most {CANARY_SHARE:g}, holds "
                "each share for more than 0 seconds, and grows by more than 1 time."
            )


def may_be_name(name: str) -> bool:
    """Whether an experiment may have a name.

    >>> may_be_name("ab"), may_be_name("champion"), may_be_name("../ab"), may_be_name("a" * 65)
    (True, False, False, False)
    """
    return _NAME.fullmatch(name) is not None and name not in _TAKEN


class LineUp(Document, frozen=True, kw_only=True):
    """A version of the line-up.

    Attributes:
        experiments: Those that run, in the order of their start.
        by: Who made this version.
        why: In their words.
        at_us: When, microseconds UTC.
        format: Version of this layout.
    """

    experiments: tuple[Experiment, ...] = ()
    by: str = ""
    why: str = ""
    at_us: int = 0
    format: int = LINE_UP_FORMAT

    def find(self, name: str) -> Experiment | None:
        """The experiment of a name; None if none runs."""
        return next((one for one in self.experiments if one.name == name), None)

    def check(self) -> None:
        """Raise ConfigurationError if something of it cannot be."""
        for one in self.experiments:
            one.check()
        if len(self.experiments) > MOST_EXPERIMENTS:
            raise ConfigurationError(
                f"{len(self.experiments)} experiments would run at once; at most "
                f"{MOST_EXPERIMENTS} may. Stop one with `sentinel experiment stop NAME`."
            )


NO_LINE_UP: Final = LineUp()


def started(line_up: LineUp, experiment: Experiment) -> LineUp:
    """The line-up with another experiment, checked.

    Raises:
        ConfigurationError: It cannot be, or one of its name runs.
    """
    running = line_up.find(experiment.name)
    if running is not None:
        raise ConfigurationError(
            f"Experiment {experiment.name!r} runs already, with version {running.version}. Stop it "
            f"first with `sentinel experiment stop {experiment.name}`, or choose another name: it "
            "draws other cards."
        )
    if experiment.canary is not None:
        canary = msgspec.structs.replace(experiment.canary, grew_at_us=())
        experiment = msgspec.structs.replace(experiment, canary=canary)
    made = msgspec.structs.replace(line_up, experiments=(*line_up.experiments, experiment))
    made.check()
    return made


def stopped(line_up: LineUp, name: str) -> LineUp:
    """The line-up without an experiment.

    Raises:
        NotFound: None of that name runs.
    """
    require(line_up, name)
    others = tuple(one for one in line_up.experiments if one.name != name)
    return msgspec.structs.replace(line_up, experiments=others)


def with_share(line_up: LineUp, name: str, share: float) -> LineUp:
    """The line-up with another share for a challenger, or another sample for a shadow.

    A share that grows keeps the cards that it had. A canary that gets a share has it at once.

    Raises:
        NotFound: None of that name runs.
        ConfigurationError: It cannot be.
    """
    found = require(line_up, name)
    if found.kind == "segment":
        raise ConfigurationError(
            f"Experiment {name!r} decides where its condition holds, and has no share. Stop it, "
            "and start it with another condition."
        )
    if found.kind == "shadow":
        changed = msgspec.structs.replace(found, sample=share)
    else:
        changed = msgspec.structs.replace(found, share=share, canary=None)
    made = msgspec.structs.replace(
        line_up,
        experiments=tuple(changed if one is found else one for one in line_up.experiments),
    )
    made.check()
    return made


def require(line_up: LineUp, name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        NotFound: None of that name runs.
    """
    found = line_up.find(name)
    if found is None:
        names = ", ".join(one.name for one in line_up.experiments) or "none"
        raise NotFound(f"No experiment {name!r} runs. Running: {names}.")
    return found


_decoder: Final = msgspec.json.Decoder(LineUp)


def decode_line_up(document: bytes) -> LineUp:
    """A stored version.

    Raises:
        ConfigurationError: A newer Sentinel wrote it, or it is damaged.
    """
    return decode_document(document, _decoder, what="line-up", newest_format=LINE_UP_FORMAT)
