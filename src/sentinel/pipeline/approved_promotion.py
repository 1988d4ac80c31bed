"""An approval, and the promotion that awaited it."""

from __future__ import annotations

from sentinel.domain import GateWaits, NotFound
from sentinel.models.signing_keys import SigningKey
from sentinel.pipeline.approvals import approve
from sentinel.pipeline.experiment_judging import promote_experiment
from sentinel.pipeline.promotion import Promoted, promote_challenger
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress


def approve_and_promote(
    settings: Settings,
    version: str,
    key: SigningKey,
    *,
    by: str,
    why: str,
    progress: ProgressCallback = no_progress,
) -> Promoted | None:
    """Approve a version, and go on with the promotion that awaited it.

    Args:
        settings, version, key, by, why: See `sentinel.pipeline.approvals.approve`.
        progress: Told of the stages "labels", "backfill" and "history".

    Returns:
        What is in charge; None if nobody had asked for a promotion yet.

    Raises:
        GateWaits: Another version became champion meanwhile, or the experiment has ended. The
            approval holds; a promotion has to be asked for again.
        ModelError, NoModel, Unavailable: See `approve`.
    """
    request = approve(settings, version, key, by=by, why=why)
    if request is None:
        return None
    if request.experiment:
        try:
            return promote_experiment(
                settings,
                request.experiment,
                by=request.by,
                why=request.why,
                instead_of=request.instead_of,
            )
        except NotFound:
            raise GateWaits(
                f"Version {version} is approved, and experiment {request.experiment} has ended "
                "meanwhile, so it stays what it is. `sentinel promote` asks the gate again."
            ) from None
    return promote_challenger(
        settings,
        version,
        instead_of=request.instead_of or "",
        by=request.by,
        why=request.why,
        reference=request.reference,
        progress=progress,
    )
