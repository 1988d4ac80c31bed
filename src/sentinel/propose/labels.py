"""Where the truth about a payment is, and what the system before decided."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from sentinel.propose import names
from sentinel.propose.column_profile import BOOLEAN_WORDS, ColumnProfile
from sentinel.propose.languages import in_english
from sentinel.propose.roles import Answers, Label, Outcome, Question, Roles, quoted
from sentinel.sources.verdicts import UNDECIDED_WORDS as USUAL_UNDECIDED

FRAUD_WORDS: Final = {
    *("1", "1.0", "true", "t", "yes", "y", "fraud", "fraudulent", "lost", "chargeback"),
    *("charged_back", "confirmed", "confirmed_fraud", "positive", "bad"),
}
LEGITIMATE_WORDS: Final = {
    *("0", "0.0", "false", "f", "no", "n", "legitimate", "legit", "genuine", "won", "ok", "good"),
    *("normal", "negative", "not_fraud", "non-fraud", "nonfraud", "none", "clean"),
}
UNDECIDED_WORDS: Final = {
    *("under_review", "needs_response", "pending", "open", "unknown", "undecided", "in_review"),
    *("warning_needs_response", "warning_under_review", "?", "suspected"),
}
_VERDICTS: Final = {
    *("fraud", "fraudulent", "legit", "legitimate", "genuine", "lost", "won", "chargeback"),
    *("charged_back", "nonfraud", "not_fraud", "non-fraud", "confirmed_fraud"),
}
# Words of verdicts that are no word of the lists above: "FRAUD - CONFIRMED", "in investigation".
_OPEN: Final = {
    *("under", "pending", "open", "ongoing", "investigation", "investigating", "review"),
    *("reviewing", "progress", "unknown", "undecided", "undetermined", "unresolved", "awaiting"),
    *("suspected", "suspicion", "suspicious", "unclear", "inconclusive", "unconfirmed"),
}
_BAD: Final = {"fraud", "fraudulent", "chargeback", "scam", "stolen", "counterfeit"}
_GOOD: Final = {"legit", "legitimate", "genuine", "cleared", "authentic"}
_NOT: Final = {"not", "no", "non", "false", "without", "never", "dismissed", "unfounded"}
_APPROVE: Final = {
    *("approved", "approve", "captured", "authorised", "authorized", "accepted", "success"),
    *("succeeded", "successful", "settled", "completed", "complete", "paid", "ok", "passed"),
    *("allowed", "allow", "accept"),
}
_DECLINE: Final = {
    *("declined", "decline", "refused", "rejected", "reject", "failed", "denied", "blocked"),
    *("block", "cancelled", "canceled", "failure", "deny"),
}
_REVIEW: Final = {"review", "in_review", "pending", "manual", "manual_review", "held", "hold"}
_MOST_LIKELY: Final = 0.4
_BROKEN: Final = 0.005
"""Share of cells in a column of yes and no that say neither and are broken, ..."""
_BROKEN_OF: Final = 500
"""... of so many at least."""
_SHOWN: Final = 6


def choose_label(roles: Roles, answers: Answers) -> None:
    """Decide which column is the verdict, or ask."""
    if answers.label == "none":
        roles.notes.append("No labels, as you said: a model cannot be trained yet.")
        return
    if roles.label is not None:  # a file of its own
        return
    columns = {name: _mended(column) for name, column in roles.profile.columns.items()}
    if answers.label:
        _take(roles, columns[answers.label], answers, "as you said")
        return
    used = roles.used()
    possible = [c for c in columns.values() if c.name not in used and _possible(c)]
    possible = [c for c in possible if not names.has(c.name, names.PREDICTED)]
    # A verdict is usually there for every payment.
    full = [c for c in possible if c.given == c.rows]
    strong = [c for c in possible if _named(c)]
    weak = [c for c in possible if names.has(c.name, names.LABEL_WEAK)]
    spoken = [c for c in possible if c.type == "text"]
    for found, why in ((strong, "by its name and values"), (weak, "by its name and values")):
        if len(found) == 1:
            _take(roles, found[0], answers, why)
            return
        if found:
            _ask(roles, found)
            return
    rare = [c for c in full or possible if c.type == "boolean"]
    rare = [c for c in rare if _share_of_fraud(c) <= _MOST_LIKELY]
    rare = [c for c in rare if not names.has(c.name, names.OUTCOME)] or rare
    candidates = spoken or rare
    if len(candidates) == 1 and (spoken or names.says_nothing(candidates[0].name)):
        _take(roles, candidates[0], answers, "the only column of verdicts, by its values")
    elif candidates:
        _ask(roles, candidates)
    else:
        alike = [c for c in columns.values() if c.constant and c.values and _named(c)]
        said = "No column says which payments were fraud"
        if possible:
            two = ", ".join(repr(c.name) for c in possible[:_SHOWN])
            said += f" ({two} might, but not by name or values)"
        if alike:
            said = f"{alike[0].name!r} says the same of every payment ({alike[0].values[0][0]})"
        roles.notes.append(
            f"{said}. A model needs to be told: name a column with --label, or bring a file of "
            "transaction_id and verdict."
        )


def choose_outcome(roles: Roles) -> None:
    """What the system before decided, if a column says so."""
    used = roles.used()
    for column in roles.profile.columns.values():
        if column.name in used or not column.values or len(column.values) > 30:
            continue
        words = {value: _plain(value) for value, _ in column.values}
        named = names.has(column.name, names.OUTCOME)
        known = _APPROVE | _DECLINE | _REVIEW
        spoken = [value for value, word in words.items() if word in known]
        if column.type == "boolean" and named and set(words.values()) & {"0", "1"}:
            _yes_or_no(roles, column)
            return
        share = sum(n for value, n in column.values if value in spoken) / max(column.given, 1)
        both = {words[v] in _APPROVE for v in spoken} == {True, False}
        if share >= 0.9 and (named or both):
            others = [value for value in words if value not in spoken]
            if others:
                roles.notes.append(
                    f"What {', '.join(map(repr, others[:_SHOWN]))} of {column.name!r} means is not "
                    "known: such payments count as approved unless [outcome] of the mapping lists "
                    "the word."
                )
            roles.outcome = Outcome(
                column.name,
                tuple(v for v in spoken if words[v] in _APPROVE),
                tuple(v for v in spoken if words[v] in _REVIEW),
                tuple(v for v in spoken if words[v] in _DECLINE),
                "the outcome of the system before, known after the decision",
            )
            return


def _yes_or_no(roles: Roles, column: ColumnProfile) -> None:
    values = [value for value, _ in column.values]
    yes = tuple(v for v in values if v.lower() in FRAUD_WORDS)
    no = tuple(v for v in values if v.lower() not in FRAUD_WORDS)
    reason = "the outcome of the system before, known after the decision"
    if names.has(column.name, {"approved", "authorised", "authorized", "accepted"}):
        roles.outcome = Outcome(column.name, yes, (), no, reason)
    elif names.has(column.name, {"declined", "refused", "rejected", "blocked"}):
        roles.outcome = Outcome(column.name, no, (), yes, reason)
    elif names.has(column.name, {"flagged"}):
        roles.outcome = Outcome(column.name, no, yes, (), reason)


def verdicts(column: ColumnProfile, told: tuple[str, ...] = ()) -> tuple[tuple[str, ...], ...]:
    """A column's values that mean fraud, legitimate, and not decided yet."""
    values = [value for value, _ in column.values]
    meanings = {value: _meaning(value) for value in values}
    if told:
        wanted = {word.lower() for word in told}
        fraud = tuple(v for v in values if v.lower() in wanted)
    else:
        fraud = tuple(v for v in values if meanings[v] == "fraud")
    undecided = tuple(v for v in values if v not in fraud and meanings[v] == "undecided")
    return fraud, tuple(v for v in values if v not in (*fraud, *undecided)), undecided


def _meaning(value: str) -> str:
    """What a value says: ``fraud``, ``legitimate``, ``undecided``, or nothing that is known.

    >>> [_meaning(v) for v in ("FRAUD - CONFIRMED", "not a fraud", "UNDER_INVESTIGATION", "7")]
    ['fraud', 'legitimate', 'undecided', '']
    """
    plain = _plain(value)
    for meaning, known in (
        ("fraud", FRAUD_WORDS),
        ("legitimate", LEGITIMATE_WORDS),
        ("undecided", UNDECIDED_WORDS),
    ):
        if plain in known:
            return meaning
    words = set(re.findall(r"[^\W\d_]+", plain))
    if words & _OPEN or re.sub(r"[\s_-]+", " ", plain) in USUAL_UNDECIDED:
        return "undecided"
    if words & _BAD:
        return "legitimate" if words & _NOT else "fraud"
    return "legitimate" if words & _GOOD and not words & _NOT else ""


def taken_for_good(column: ColumnProfile, legitimate: tuple[str, ...]) -> str:
    """A sentence on values that are taken for legitimate and say nothing that is known."""
    unknown = [(v, n) for v, n in column.values if v in legitimate and not _meaning(v)]
    if not unknown:
        return ""
    some = ", ".join(f"{value!r} ({count:,})" for value, count in unknown[:_SHOWN])
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    named = f" of {column.name!r}" if column.name else ""
    return (
        f"{some}{more}{named} count as legitimate: if they say that nothing is decided yet, put "
        "them under undecided_values of [labels]."
    )


def _plain(value: str) -> str:
    """A value as one word in lower case, in English if it is known in another language."""
    return in_english(value.strip().lower()).replace(" ", "_")


def _named(column: ColumnProfile) -> bool:
    words = set(names.words_of(column.name))
    return bool(words & names.LABEL) and not words & names.NOT_LABEL


def _possible(column: ColumnProfile) -> bool:
    if column.type == "boolean" and len(column.values) == 2:
        return True
    if column.type == "boolean" and len(column.values) == 1:
        # A mark that only frauds have.
        return _named(column) and column.share_given < 0.5
    if column.type not in ("text", "integer") or not 1 <= len(column.values) <= 12:
        return False
    words = {_plain(value) for value, _ in column.values}
    if words == {"yes", "no"}:
        return True
    spoken = words & _VERDICTS
    spoken |= {
        word for word in words if _meaning(word) and set(re.findall(r"[^\W\d_]+", word)) & _BAD
    }
    return bool(spoken) and len(spoken) >= len(words) / 2


def _minority(column: ColumnProfile) -> tuple[str, float]:
    value, count = min(column.values, key=lambda item: item[1])
    return value, count / column.rows


def _share_of_fraud(column: ColumnProfile) -> float:
    fraud, _, _ = verdicts(column)
    counts = dict(column.values)
    if not fraud:
        return _minority(column)[1]
    return sum(counts[value] for value in fraud) / column.rows


def _mended(column: ColumnProfile) -> ColumnProfile:
    """A column of yes and no without the few cells that say neither."""
    spoken = tuple((word, n) for word, n in column.values if word.lower() in BOOLEAN_WORDS)
    broken = column.given - sum(n for _, n in spoken)
    if len(spoken) != 2 or not 0 < broken <= max(1.0, _BROKEN * column.given):
        return column
    return replace(column, type="boolean", values=spoken) if column.given >= _BROKEN_OF else column


def _take(roles: Roles, column: ColumnProfile, answers: Answers, why: str) -> None:
    fraud, legitimate, undecided = verdicts(column, answers.fraud_values)
    kept = {word for word, _ in column.values}
    broken = [v for v in roles.profile.columns[column.name].values if v[0] not in kept]
    if broken:
        undecided = (*undecided, *(word for word, _ in broken))
        roles.notes.append(
            f"Broken values of {column.name!r}: {sum(n for _, n in broken):,} of {column.given:,}, "
            f"such as {broken[0][0]!r}; they are no verdicts."
        )
    words = {value.lower() for value, _ in column.values}
    if not fraud and answers.fraud_values:
        fraud = answers.fraud_values
    if not fraud and words and not words & set(BOOLEAN_WORDS):
        if len(column.values) == 2:
            value, share = _minority(column)
            fraud = (value,)
            legitimate = tuple(v for v, _ in column.values if v != value)
            roles.notes.append(
                f"{value!r} is taken for fraud in {column.name!r}, since it is the rarer value "
                f"({share:.2%}); --label-values says otherwise."
            )
        else:
            roles.questions.append(
                Question(
                    "fraud values",
                    f"Which values of {column.name!r} mean fraud?",
                    tuple(
                        (f"--label-values {quoted(value)}", f"{count / column.rows:.2%} of rows")
                        for value, count in column.values[:_SHOWN]
                    ),
                )
            )
            return
    unclear = taken_for_good(column, legitimate)
    if unclear and len(column.values) > 2:  # of two, the other one is meant
        roles.notes.append(unclear)
    frauds = sum(count for value, count in column.values if value in fraud)
    share = frauds / max(column.rows, 1)
    roles.label = Label(
        column.name,
        fraud,
        f"{why}: {frauds:,} frauds ({share:.2%})",
        legitimate,
        undecided,
        delay_days=answers.delay_days,
        share=share,
    )


def _ask(roles: Roles, candidates: list[ColumnProfile]) -> None:
    ordered = sorted(candidates, key=lambda c: (_minority(c)[1], c.place))
    shown = ordered[:_SHOWN]
    roles.pending.update(column.name for column in candidates)
    flags = tuple(
        (
            f"--label {quoted(column.name)}",
            ", ".join(f"{v} {n / column.rows:.2%}" for v, n in column.values[:3]),
        )
        for column in shown
    )
    more = (
        f" ({len(candidates) - len(shown)} more are possible)" if len(candidates) > _SHOWN else ""
    )
    roles.questions.append(
        Question(
            "label",
            f"Which column says that a payment was fraud{more}?",
            (*flags, ("--label none", "there are no labels yet")),
        )
    )
