"""Verbs that bring data in and take it out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel.cli.console import err, out, plain_errors, settings_for
from sentinel.cli.options import AllowRejects, Workspace

if TYPE_CHECKING:
    from sentinel.sources.mapping_file import LabelColumns


def propose(
    files: Annotated[
        list[Path], typer.Argument(help="Tables of payments: files, a folder or an archive.")
    ],
    workspace: Workspace = None,
    id: Annotated[
        list[str] | None, typer.Option(help="Column of the id (several are joined), or `row`.")
    ] = None,
    time: Annotated[
        list[str] | None, typer.Option(help="Column of the time; several are read together.")
    ] = None,
    time_format: Annotated[
        str | None, typer.Option(help="iso, or a pattern such as %d.%m.%Y.")
    ] = None,
    time_unit: Annotated[
        str | None, typer.Option(help="What numbers count: s, ms, us, ns, min, h or d.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="The day at which a count is 0.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of times that name none.")] = None,
    amount: Annotated[
        str | None, typer.Option(help="Column of the amount; `none` if there are no payments.")
    ] = None,
    amount_unit: Annotated[str | None, typer.Option(help="major (euros) or minor (cents).")] = None,
    currency: Annotated[
        str | None, typer.Option(help="The one currency of all amounts, such as EUR.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Column of the verdict; `none` if there is none.")
    ] = None,
    label_values: Annotated[
        list[str] | None, typer.Option(help="Its values that mean fraud.")
    ] = None,
    label_delay: Annotated[
        float | None, typer.Option(help="Days until a fraud is known.", min=0)
    ] = None,
    customer: Annotated[list[str] | None, typer.Option(help="Column of the customer.")] = None,
    card: Annotated[list[str] | None, typer.Option(help="Column of the card.")] = None,
    merchant: Annotated[list[str] | None, typer.Option(help="Column of the merchant.")] = None,
    device: Annotated[list[str] | None, typer.Option(help="Column of the device.")] = None,
    ip: Annotated[list[str] | None, typer.Option(help="Column of the address.")] = None,
    use: Annotated[
        list[str] | None, typer.Option(help="Take in a column that is suspected of leaking.")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave a column out.")] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="Of the text, such as cp850; default: told by its letters."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the proposal as JSON.")] = False,
) -> None:
    """Read a table, and write a mapping and feature definitions for it into a workspace.

    What two readings fit equally is asked, and ends with code 2 where nobody can answer.
    """
    from sentinel.cli.propose import run, workspace_of
    from sentinel.propose.answering import answers_of

    given = {
        "--id": id,
        "--time": time,
        "--time-format": time_format,
        "--time-unit": time_unit,
        "--start": start,
        "--timezone": timezone,
        "--amount": amount,
        "--amount-unit": amount_unit,
        "--currency": currency,
        "--label": label,
        "--label-values": label_values,
        "--label-delay": label_delay,
        "--customer": customer,
        "--card": card,
        "--merchant": merchant,
        "--device": device,
        "--ip": ip,
        "--use": use,
        "--exclude": exclude,
        "--encoding": encoding,
    }
    with plain_errors():
        folder = settings_for(workspace or workspace_of(files[0])).workspace
        run(files, folder, answers_of(given), as_json=as_json)


def import_(
    source: Annotated[
        str, typer.Argument(help="simulator, ieee-cis, handbook, or a mapping file (.toml).")
    ],
    path: Annotated[
        Path | None, typer.Option(help="Where the files of ieee-cis or handbook are.")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what is understood; import nothing.")
    ] = False,
    allow_rejects: AllowRejects = 0.5,
    workspace: Workspace = None,
) -> None:
    """Import history into the ledger. Bad rows go to a rejects file with their reasons.

    A simulated history ends now: its latest labels have not arrived yet, as in life. Imported
    once more into the same workspace, it is the same history.
    """
    from sentinel.cli.importing import import_and_report
    from sentinel.pipeline.importing import import_history, import_records, known_transactions
    from sentinel.sources.preview import preview as look
    from sentinel.sources.preview_text import render_preview
    from sentinel.sources.registry import open_source

    with plain_errors():
        settings = settings_for(workspace)
        now_us = time.time_ns() // 1000
        options: dict[str, Any] = {} if path is None else {"path": path}
        if source == "simulator":
            # Once more is the same world once more: its ids would come with other content.
            earlier = [r for r in import_records(settings) if r.source == "simulator"]
            options["ending_us"] = earlier[0].started_at_us if earlier else now_us
        opened = open_source(source, **options)
        from sentinel.feature_sets import OF_SOURCES, suit

        if source in OF_SOURCES and not preview:
            installed = suit(settings, OF_SOURCES[source])
            if installed is not None:
                out.print(str(installed), soft_wrap=True, markup=False)
        if preview:
            seen = look(opened, now_us=now_us, known=lambda: known_transactions(settings))
            out.print(render_preview(seen))
            return
        import_and_report(
            lambda progress: import_history(
                settings, opened, now_us=now_us, allow_rejects=allow_rejects, progress=progress
            )
        )


def example(
    name: Annotated[str | None, typer.Argument(help="Name; without one, list them.")] = None,
    into: Annotated[Path, typer.Option(help="Folder that holds the data.")] = Path(),
) -> None:
    """Copy the mapping file of a well-known data set into a folder; without a name, list them."""
    from sentinel.cli.reports import examples_report
    from sentinel.examples import copy_to

    with plain_errors():
        if name is None:
            examples_report(out)
        else:
            out.print(f"Written to {copy_to(name, into)}.", soft_wrap=True, markup=False)


def import_labels(
    path: Annotated[
        Path,
        typer.Argument(
            help="A table with transaction_id, verdict and received_at; or a mapping file (.toml) "
            "whose table of labels has a path."
        ),
    ],
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Of a table that is text, such as cp1252; default: UTF-8, or what its letters "
            "show. In a mapping file it is labels.encoding."
        ),
    ] = None,
    allow_rejects: AllowRejects = 0.5,
    workspace: Workspace = None,
) -> None:
    """Import labels from files of their own."""
    from sentinel.cli.importing import import_and_report
    from sentinel.pipeline.importing import import_labels as run

    with plain_errors():
        settings = settings_for(workspace)
        columns = _label_columns(path, encoding)
        import_and_report(
            lambda progress: run(
                settings, path, columns=columns, allow_rejects=allow_rejects, progress=progress
            )
        )


def _label_columns(path: Path, encoding: str | None) -> LabelColumns | None:
    """How a table of labels is read; None where a mapping file says it."""
    from sentinel.domain import ConfigurationError
    from sentinel.sources.labels_file import plain_labels
    from sentinel.sources.sniff import encoding_of_text

    if path.suffix == ".toml":
        if encoding is not None:
            raise ConfigurationError(
                f"--encoding is of a table without a mapping file; set labels.encoding in {path}."
            )
        return None
    if encoding is None:
        encoding = encoding_of_text(path)
        if encoding != "utf8":
            out.print(
                f"The text of {path} is no UTF-8; it is read as {encoding}. --encoding says "
                "another one.",
                markup=False,
                soft_wrap=True,
            )
    return plain_labels(encoding)


def export(
    target: Annotated[
        str | None,
        typer.Argument(help="Folder or s3://bucket/prefix; default: the offline store's."),
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Export transactions, decisions and labels to partitioned Parquet; only what is new."""
    from sentinel.pipeline.exporting import export_history
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        with progress_bar(err) as progress:
            result = export_history(settings_for(workspace), target, progress=progress)
        out.print(f"{result.where} holds the log through entry {result.exported_through:,}.")
        if result.published is not None:
            done = result.published
            out.print(
                f"{done.uploaded:,} files ({done.uploaded_bytes / 1e6:,.1f} MB) went up, "
                f"{done.kept:,} were there, {done.removed:,} were removed."
            )
