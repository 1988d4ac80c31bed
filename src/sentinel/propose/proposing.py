"""The use case: look at files, decide what every column is for, and write it into a workspace."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pyarrow.compute as pc

from sentinel.domain import ConfigurationError
from sentinel.feature_sets import IEEE_CIS, complete, set_text
from sentinel.propose import reading
from sentinel.propose.column_profile import ColumnProfile
from sentinel.propose.deciding import decide, step_seconds
from sentinel.propose.definitions_text import definitions_text, hardly_recurs, without_windows
from sentinel.propose.files import Written, load_record, save_record, write
from sentinel.propose.ids import names_payments
from sentinel.propose.labels import taken_for_good
from sentinel.propose.labels import verdicts as verdict_words
from sentinel.propose.mapping_text import built_in_text, mapping_text
from sentinel.propose.names import slug
from sentinel.propose.profile import TableProfile
from sentinel.propose.reading import LabelMap, Tables
from sentinel.propose.roles import Answers, Attribute, Entity, Label, Roles
from sentinel.propose.settings_text import settings_text
from sentinel.propose.summary import report, report_markdown
from sentinel.sources.ieee_cis import IeeeCisSource
from sentinel.sources.near_ids import essence, in_words
from sentinel.sources.progress import ProgressCallback, no_progress
from sentinel.sources.sniff import NO_UTF8, SniffedTable

MAPPING: Final = "mapping.toml"
DEFINITIONS: Final = "feature_store/definitions.py"

IEEE_CIS_SOURCE: Final = "ieee-cis"
_IEEE_KEYS: Final = {
    "customer_id": ("card1", "addr1", "D1"),
    "card_id": ("card1", "card2", "card3", "card4", "card5", "card6"),
    "device_id": ("DeviceInfo", "id_30", "id_31", "id_33"),
}
_LABEL_COLUMNS: Final = 8
"""So many columns a small table of ids and verdicts has at most."""
_LEAST_MET: Final = 0.2
_ENDINGS: Final = r"(\.(csv|tsv|txt|jsonl?|ndjson|parquet|pq|gz|bz2|xz|zst|zip))+$"


@dataclass(frozen=True)
class Examined:
    """What was read, before anything is decided.

    Attributes:
        paths: As the user named them.
        tables: What lies there.
        profile: Of the payments.
        broken: Lines that are no rows.
    """

    paths: tuple[Path, ...]
    tables: Tables
    profile: TableProfile
    broken: int = 0


@dataclass(frozen=True)
class Proposal:
    """What was decided, and where it is written.

    Attributes:
        roles: Every choice with its reason.
        written: The files; none as long as there are questions.
        mapping: The mapping file to import with.
    """

    roles: Roles
    written: tuple[Written, ...]
    mapping: Path

    @property
    def complete(self) -> bool:
        """Whether nothing has to be asked."""
        return not self.roles.questions


def examine(
    paths: Sequence[Path], progress: ProgressCallback = no_progress, encoding: str = ""
) -> Examined:
    """Find the payments at some paths and read all of their rows once.

    Args:
        paths: Files, folders, globs or archives.
        progress: Told of the rows read.
        encoding: Of their text; empty: told by its letters.

    Raises:
        ConfigurationError: There is no table, it has no rows, or its text is not of that encoding.
    """
    tables = reading.look(paths, encoding)
    # Of several files the payments name the table, whichever was given first.
    name = name_of(paths[0] if len(paths) == 1 else Path(tables.paths[0]))
    profile, broken = reading.profile_table(tables.main, name, progress)
    if not profile.rows:
        raise ConfigurationError(f"{name} has columns but no rows: there is nothing to look at.")
    return Examined(tuple(paths), tables, profile, broken)


def settle(examined: Examined, answers: Answers) -> Roles:
    """Decide what every column is for; what fits equally becomes a question.

    Raises:
        ConfigurationError: An answer names a column that is not there.
    """
    tables, profile = examined.tables, examined.profile
    found = _label_file(tables, profile, answers) or LabelFile(None, None)
    label = found.label
    roles = decide(profile, answers, label=label, verdicts=found.verdicts, cases=found.cases)
    roles.notes += found.notes
    if examined.broken:
        lines = "1 line is" if examined.broken == 1 else f"{examined.broken:,} lines are"
        roles.notes.append(f"{lines} broken: the import counts them among the rejects.")
    # A text that is read in another encoding has other names: the summary shows the first notes.
    encoding = [note for note in tables.main.notes if note.startswith(NO_UTF8)]
    roles.notes += [f"{note}." for note in tables.main.notes if note not in encoding]
    labelled = label.path if label else ""
    roles.notes[:0] = [f"{note}." for note in encoding]
    roles.notes[len(encoding) : len(encoding)] = [
        _unused(other, table, profile)
        for other, table in tables.others
        if table.files[0].path.resolve().as_posix() != labelled
    ]
    return roles


def propose(
    paths: Sequence[Path],
    workspace: Path,
    answers: Answers | None = None,
    *,
    progress: ProgressCallback = no_progress,
) -> Proposal:
    """Read all rows at some paths once and write a mapping and definitions for them.

    Args:
        paths: Files, folders, globs or archives.
        workspace: Where ``mapping.toml`` and ``feature_store`` go.
        answers: What the user said.
        progress: Told of the rows read.

    Returns:
        The proposal. If it has questions, nothing is written.

    Raises:
        ConfigurationError: There is no table, or an answer names a column that is not there.
    """
    answers = answers or Answers()
    examined = examine(paths, progress, answers.encoding)
    return write_down(examined, settle(examined, answers), workspace)


def write_down(examined: Examined, roles: Roles, workspace: Path) -> Proposal:
    """Write what was decided into a workspace, unless there are questions."""
    if roles.questions or roles.id is None or roles.time is None or roles.amount is None:
        return Proposal(roles, (), workspace / MAPPING)
    written, mapping = _write(examined, roles, workspace)
    return Proposal(roles, written, mapping)


def proposed_before(paths: Sequence[Path], workspace: Path) -> bool:
    """Whether a workspace holds a proposal for just these paths."""
    record = load_record(workspace)
    return record.sources == _sources(paths) and (workspace / MAPPING).exists()


def _sources(paths: Sequence[Path]) -> list[str]:
    return [path.resolve().as_posix() for path in paths]


def _write(examined: Examined, roles: Roles, workspace: Path) -> tuple[tuple[Written, ...], Path]:
    record = load_record(workspace)
    step = step_seconds(roles)
    bare = without_windows(roles, step)
    for entity in bare:
        if hardly_recurs(roles, entity):
            roles.notes.append(
                f"{entity.columns[0]!r} hardly ever recurs: {entity.entity} has no windows."
            )
    if roles.days <= 0 and roles.profile.rows > 1:
        # The most that can be wrong with a history comes first.
        roles.notes.insert(
            0,
            "All payments have the same time: nothing has windows, and a model cannot be tried on "
            "later payments than it learnt from. If another column says when, name it with --time.",
        )
    elif any(not hardly_recurs(roles, entity) for entity in bare):
        roles.notes.insert(0, "The history is too short, or its times too coarse, for windows.")
    built_in = _built_in(examined, roles)
    if built_in is not None:
        mapping, definitions = built_in_text(roles, IEEE_CIS_SOURCE, built_in), set_text(IEEE_CIS)
    else:
        mapping = mapping_text(slug(roles.profile.name), examined.tables.files(), roles)
        definitions = definitions_text(roles, step)
    texts = {
        MAPPING: mapping,
        DEFINITIONS: definitions,
        "sentinel.toml": settings_text(roles),
        "proposal.md": report_markdown(roles),
    }
    record.written.pop("proposal.md", None)
    (workspace / "proposal.md").unlink(missing_ok=True)
    written = {path: write(workspace, path, text, record) for path, text in texts.items()}
    complete((workspace / DEFINITIONS).parent, workspace)
    record.sources = _sources(examined.paths)
    record.report = report(roles)
    save_record(workspace, record)
    return tuple(written.values()), written[MAPPING].kept or written[MAPPING].path


def _built_in(examined: Examined, roles: Roles) -> Path | None:
    """The folder for the built-in source that reads this data set better than a mapping.

    What that source does with each column is what the proposal says then.
    """
    if not roles.known.startswith("IEEE-CIS"):
        return None
    folder = examined.tables.main.files[0].path.resolve().parent
    try:
        source = IeeeCisSource(folder)
    except ConfigurationError:  # no identities beside the transactions
        return None
    roles.attributes = tuple(
        Attribute(name, name, kind, "kept by the built-in source")
        for name, kind in source.attributes.items()
    )
    for use in source.describe().columns:
        if not use.becomes:
            roles.left_out[use.column] = "not read by the built-in source"
        else:
            roles.left_out.pop(use.column, None)
    roles.entities = tuple(
        replace(entity, columns=columns, reason="joined by the built-in source")
        for entity, columns in ((Entity(name, (), ""), told) for name, told in _IEEE_KEYS.items())
    )
    if roles.amount is not None:
        roles.amount = replace(roles.amount, scale=source.scale)
    roles.homeless.clear()
    roles.notes = [note for note in roles.notes if "another table" not in note]
    roles.notes.append("The built-in source ieee-cis reads both files and joins them.")
    return folder


def name_of(path: Path) -> str:
    """A table's name: its file's or folder's, without endings.

    >>> name_of(Path("in/payments.csv.gz"))
    'payments'
    """
    name = path.resolve().name
    return re.sub(_ENDINGS, "", name) or name


@dataclass(frozen=True)
class LabelFile:
    """Labels in a file of their own.

    Attributes:
        label: What it says.
        verdicts: Ids to verdicts, for the sampled payments.
        cases: Its first rows, if it is a table.
        notes: What should be known of it.
    """

    label: Label | None
    verdicts: Mapping[str, str] | None
    cases: TableProfile | None = None
    notes: tuple[str, ...] = ()


def _label_file(tables: Tables, profile: TableProfile, answers: Answers) -> LabelFile | None:
    """Where the truth is, if it lies in a file of its own."""
    if answers.label:
        return None
    if tables.labels is not None:
        return _of_map(tables.labels, profile, answers)
    return _of_table(tables, profile)


def _unused(name: str, table: SniffedTable, profile: TableProfile) -> str:
    """Why a table beside the payments is not used, and what would make it their labels."""
    if len(table.names) <= _LABEL_COLUMNS:
        head = reading.head_of(table, name)
        for column in names_payments(profile):
            payments = pc.drop_null(profile.texts(column.name)).to_pylist()
            known = {essence(text): text for text in payments}
            for other in head.columns:
                texts = pc.drop_null(head.texts(other)).to_pylist()
                met = [text for text in texts if essence(text) in known]
                if len(met) <= _LEAST_MET * len(texts) or set(met) & set(payments):
                    continue
                pair = in_words((met[0], known[essence(met[0])]))
                return (
                    f"{name} would be the labels, but its {other!r} is not written as "
                    f"{column.name!r} is: {pair}."
                )
    unused = f"{name} is another table and not used: tables are not joined."
    if len(table.names) > _LABEL_COLUMNS:
        return unused
    return (
        f"{unused} If it holds the labels, say so under [labels] of the mapping: its path, the "
        "columns that are the transaction_id, and the arrival."
    )


def _of_map(labels: LabelMap, profile: TableProfile, answers: Answers) -> LabelFile | None:
    wanted = {
        c.name: set(profile.texts(c.name).to_pylist()) - {None} for c in names_payments(profile)
    }
    found, counts = reading.verdicts_in(labels, set().union(*wanted.values()) if wanted else set())
    joined = max(wanted, key=lambda name: len(wanted[name] & found.keys()), default="")
    if not joined or not wanted[joined] & found.keys():
        return None
    pretended = ColumnProfile(
        name="", place=0, type="text", rows=sum(counts.values()), values=tuple(counts.items())
    )
    fraud, legitimate, undecided = verdict_words(pretended, answers.fraud_values)
    frauds, total = sum(counts[value] for value in fraud), max(sum(counts.values()), 1)
    label = Label(
        column="",
        fraud_values=fraud,
        legitimate_values=legitimate,
        undecided_values=undecided,
        path=labels.path.resolve().as_posix(),
        format="json_map",
        key=labels.key,
        joined_by=joined,
        share=frauds / total,
        reason=f"{total:,} verdicts by {joined!r}, {frauds:,} frauds ({frauds / total:.2%})",
    )
    unclear = taken_for_good(pretended, legitimate) if len(counts) > 2 else ""
    return LabelFile(label, found, notes=(unclear,) if unclear else ())


def _of_table(tables: Tables, profile: TableProfile) -> LabelFile | None:
    """A small table of ids and verdicts beside the payments."""
    from sentinel.propose.labels import choose_label

    ids = {c.name: set(profile.texts(c.name).to_pylist()) - {None} for c in names_payments(profile)}
    for name, table in tables.others:
        if len(table.names) > _LABEL_COLUMNS or not ids:
            continue
        head = reading.head_of(table, name)
        best, key, joined = 0.0, "", ""
        for column, known in ids.items():
            for other in head.columns:
                texts = [t for t in head.texts(other).to_pylist() if t is not None]
                share = len(known.intersection(texts)) / max(len(texts), 1)
                if share > max(best, 0.2 if profile.complete else 0.01):
                    best, key, joined = share, other, column
        if not key:
            continue
        roles = Roles(replace(head, columns={n: c for n, c in head.columns.items() if n != key}))
        choose_label(roles, Answers())
        if roles.label is None:
            continue
        path = table.files[0].path.resolve().as_posix()
        verdicts = reading.verdicts_of(table, key, roles.label.column, ids[joined])
        label = replace(
            roles.label,
            path=path,
            transaction_id=key,
            joined_by=joined,
            reason=f"its own file, {name}, by {joined!r}",
        )
        return LabelFile(label, verdicts, head, tuple(roles.notes))
    return None
