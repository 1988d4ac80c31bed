"""From transactions to decisions: state, models and policy put together, without any I/O.

A scorer changes state before its decisions are durable. The writer commits them; if that fails,
state that has one writer is thrown away and made anew from the log.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.features.plan.program import Program
from sentinel.policy.exploration import Control, ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.scoring.panel import Panel
from sentinel.scoring.serving_model import ServingModel
from sentinel.state.base import FeatureState, Reading


class Scored(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a scorer says of a batch; row i is of its i-th transaction.

    Attributes:
        model: The model that decided.
        vectors: float32 (n, n_features), NaN = unknown.
        scores: float64 (n,), raw.
        probabilities: float64 (n,), calibrated.
        flags: uint32 (n,), outcome code and flags as the ledger keeps them.
        reason_features: int16 (n, N_REASONS).
        reason_contributions: float32 (n, N_REASONS).
        policy_hash: The policy that ruled.
        control: What the control group did; None if no row was eligible.
        positions, repeated, ticket, new_records, untracked: See `Reading`. The rows of the last
            two are those of the whole group.
    """

    model: ServingModel
    vectors: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    flags: npt.NDArray[np.uint32]
    reason_features: npt.NDArray[np.int16]
    reason_contributions: npt.NDArray[np.float32]
    policy_hash: str = ""
    control: Control | None = None
    positions: bytes = b""
    repeated: tuple[int, ...] = ()
    ticket: bytes = b""
    new_records: Sequence[int] = ()
    untracked: Mapping[int, tuple[str, ...]] = {}

    def rows(self, kept: Sequence[int]) -> Scored:
        """The figures of some rows."""
        taken = list(kept)
        positions = self.positions
        if positions:
            of_rows = np.frombuffer(positions, "<i8").reshape(len(self.flags), -1)
            positions = of_rows[taken].tobytes()
        return msgspec.structs.replace(
            self,
            vectors=self.vectors[taken],
            scores=self.scores[taken],
            probabilities=self.probabilities[taken],
            flags=self.flags[taken],
            reason_features=self.reason_features[taken],
            reason_contributions=self.reason_contributions[taken],
            positions=positions,
            control=None if self.control is None else self.control.rows(taken),
            repeated=(),
        )


class Scorer:
    """State, models and policy together.

    `decide`, `decide_without_state`, `peek` and `read` are called where the state wants them: see
    `FeatureState.waits`.

    Args:
        state: The features; the scorer owns it from now on.
        panel: The models.
        policy: Turns probabilities into outcomes; default: by the champion's own thresholds.
        key: Draws the control group of the policy; without one nothing is let through.

    Raises:
        ConfigurationError: The control group counts by a feature that the champion's plan lacks.
    """

    def __init__(
        self,
        state: FeatureState,
        panel: Panel,
        policy: Policy | None = None,
        key: ExplorationKey | None = None,
    ) -> None:
        self.state = state
        self.panel = panel
        champion = panel.champion
        if policy is None and champion is not None:
            policy = Policy(champion.manifest.thresholds)
        self.policy = policy
        self.key = key
        control = None if policy is None or key is None else policy.control
        self._count_column = (
            None if control is None or champion is None else control.count_column(champion.plan)
        )

    def with_state(self, state: FeatureState) -> Scorer:
        """The same models and policy over another state of the same plan."""
        return Scorer(state, self.panel, self.policy, self.key)

    @property
    def program(self) -> Program:
        """The compiled plan of the state."""
        return self.state.program

    @property
    def model(self) -> ServingModel | None:
        """The champion; None while nothing has been promoted."""
        return self.panel.champion

    def warm(self) -> None:
        """Compile or load every kernel of the path, without touching state."""
        self.state.warm()
        if self.model is not None:
            probe = Transaction(
                transaction_id="warm-up", event_time_us=0, received_at_us=0, amount_minor=1
            )
            self.peek([probe])

    def decide(
        self, transactions: Sequence[Transaction], known_only: Collection[int] = ()
    ) -> Scored:
        """Read features, score and add each transaction to the state, in order.

        Args:
            transactions: In log order.
            known_only: See `FeatureState.add`.

        Raises:
            NoModel: Nothing has been promoted yet; state is untouched.
        """
        model = self.panel.require()
        return self._score(model, transactions, self.state.add(transactions, known_only), self.key)

    def decide_without_state(self, transactions: Sequence[Transaction]) -> Scored:
        """Score what needs no state, flagged degraded; state is neither read nor changed.

        Raises:
            NoModel: Nothing has been promoted yet.
        """
        model = self.panel.require()
        return self._score(model, transactions, self.state.add_without_state(transactions))

    def peek(self, transactions: Sequence[Transaction]) -> Scored:
        """Score as if each were the next transaction; state is untouched.

        The outcome is the one before the control group, so that nobody can look for the cards that
        it lets through.

        Raises:
            NoModel: Nothing has been promoted yet.
        """
        model = self.panel.require()
        return self._score(model, transactions, self.state.peek(transactions))

    def _score(
        self,
        model: ServingModel,
        transactions: Sequence[Transaction],
        reading: Reading,
        key: ExplorationKey | None = None,
    ) -> Scored:
        assert self.policy is not None  # there is one with every champion
        vectors, column = reading.vectors, self._count_column
        scores, probabilities = model.score(vectors)
        ruling = self.policy.rule(
            probabilities,
            reading.flags,
            transactions,
            key=key,
            counts=None if column is None else vectors[:, column],
        )
        features, contributions = model.explain(vectors)
        return Scored(
            model,
            vectors,
            scores,
            probabilities,
            ruling.flags,
            features,
            contributions,
            ruling.policy_hash,
            ruling.control,
            reading.positions,
            reading.repeated,
            reading.ticket,
            reading.new_records,
            reading.untracked,
        )
