"""From transactions to decisions: state, models and policy put together, without any I/O.

A scorer changes state before its decisions are durable. The writer commits them; if that fails,
state that has one writer is thrown away and made anew from the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.features.plan.program import Program
from sentinel.log.entries import N_REASONS
from sentinel.models.many_scorers import ManyScorers
from sentinel.policy.exploration import Control, ExplorationKey, joined_control
from sentinel.policy.ruling import Policy, Ruling
from sentinel.scoring.panel import Panel
from sentinel.scoring.roles import RolesScored, drop, score_roles, score_together
from sentinel.scoring.serving_model import ServingModel
from sentinel.scoring.union import Columns, Union, explain, taken
from sentinel.state.base import FeatureState, Hands, Reading


class Scored(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a scorer says of a batch; row i is of its i-th transaction.

    Attributes:
        model: The champion.
        vectors: float32 (n, n_features), NaN = unknown.
        scores: float64 (n,), the champion's raw scores.
        probabilities: float64 (n,), its calibrated probabilities.
        flags: uint32 (n,), outcome code and flags as the ledger keeps them.
        reason_features: int16 (n, N_REASONS), of the model that decided, as features of the
            vectors.
        reason_contributions: float32 (n, N_REASONS).
        policy_hash: The policy that ruled.
        control: What the control group did; None if no row was eligible.
        positions, repeated, ticket, new_records, untracked: See `Reading`. The rows of the last
            two are those of the whole group.
        roles: What the models beside the champion said; None if there are none.
        union: The plan of the vectors; None if they are of the champion's.
        began_ns, read_ns: When reading state began and had ended, by `time.perf_counter_ns`.
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
    roles: RolesScored | None = None
    union: Union | None = None
    began_ns: int = 0
    read_ns: int = 0

    @property
    def told_by(self) -> ServingModel | Union:
        """Names the features of the vectors, and puts their values into words."""
        return self.model if self.union is None else self.union

    def deciding_probabilities(self) -> npt.NDArray[np.float64]:
        """float64 (n,): probabilities that were ruled on."""
        return self.probabilities if self.roles is None else self.roles.deciding()

    def decider(self, row: int) -> ServingModel:
        """The model whose probability was ruled on."""
        roles = self.roles
        if roles is None or roles.deciders is None or not roles.deciders[row]:
            return self.model
        return roles.models[int(roles.deciders[row]) - 1].model

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
            roles=None if self.roles is None else self.roles.rows(taken),
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
        column = None
        if control is not None and champion is not None:
            column = control.count_column(champion.plan)
            if column is not None and panel.columns is not None:  # a union may call it otherwise
                column = int(panel.columns[column])
        self._count_column = column

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
        """Compile or load every kernel of the path, without touching state.

        Those for several models, too: a line-up that comes later is not held up by them.
        """
        self.state.warm()
        if self.model is not None:
            probe = Transaction(
                transaction_id="warm-up", event_time_us=0, received_at_us=0, amount_minor=1
            )
            self.peek([probe])
            row = np.full((1, len(self.model.plan.feature_names)), np.nan, dtype=np.float32)
            ManyScorers([self.model.many]).score(row)

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
        began_ns = time.perf_counter_ns()
        reading = self.state.add(transactions, known_only)
        return self._score(model, transactions, reading, self.key, began_ns=began_ns)

    def begin_decide(
        self,
        hands: Hands,
        transactions: Sequence[Transaction],
        known_only: Collection[int],
        done: Callable[[Scored | None, Exception | None], None],
    ) -> bool:
        """`decide` on the event loop without waiting, where the state waits for a server.

        Args:
            hands: Who does it.
            transactions, known_only: See `decide`.
            done: Called on the event loop later.

        Returns:
            Whether it was begun. If not, nothing was done: `decide` has to be called in a thread.
        """
        model = self.panel.champion
        if model is None:
            return False

        began_ns = time.perf_counter_ns()

        def added(reading: Reading | None, error: Exception | None) -> None:
            scored: Scored | None = None
            if reading is not None:
                try:
                    scored = self._score(model, transactions, reading, self.key, began_ns=began_ns)
                except Exception as problem:  # noqa: BLE001 -- whoever waits gets the error
                    error = problem
            done(scored, error)

        return self.state.begin_add(hands, transactions, known_only, added)

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
        it lets through. Models that decide on none of the payments do not score them.

        Raises:
            NoModel: Nothing has been promoted yet.
        """
        model = self.panel.require()
        return self._score(model, transactions, self.state.peek(transactions), all_roles=False)

    def _score(
        self,
        model: ServingModel,
        transactions: Sequence[Transaction],
        reading: Reading,
        key: ExplorationKey | None = None,
        *,
        all_roles: bool = True,
        began_ns: int = 0,
    ) -> Scored:
        read_ns = time.perf_counter_ns()
        assert self.policy is not None  # there is one with every champion
        vectors, column = reading.vectors, self._count_column
        panel = self.panel
        roles, said = None, None
        if panel.together is not None and all_roles:
            said = score_together(panel, vectors)
        if said is None:
            scores, probabilities = model.score(taken(vectors, panel.columns))
        else:
            scores, probabilities = said.scores[0], said.probabilities[0]
        if panel.others:
            roles = score_roles(
                panel,
                vectors,
                scores,
                probabilities,
                transactions,
                all_roles=all_roles,
                said=said,
            )
        counts = None if column is None else vectors[:, column]
        if roles is None or roles.deciders is None:
            ruling = self.policy.rule(
                probabilities, reading.flags, transactions, key=key, counts=counts
            )
            features, contributions = explain(model, vectors, panel.columns)
        else:
            ruling, features, contributions = self._decide_by_roles(
                model, roles, roles.deciders, vectors, reading.flags, transactions, key
            )
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
            roles,
            panel.union,
            began_ns or read_ns,
            read_ns,
        )

    def _decide_by_roles(
        self,
        champion: ServingModel,
        roles: RolesScored,
        deciders: npt.NDArray[np.uint8],
        vectors: npt.NDArray[np.float32],
        flags: npt.NDArray[np.integer],
        transactions: Sequence[Transaction],
        key: ExplorationKey | None,
    ) -> tuple[Ruling, npt.NDArray[np.int16], npt.NDArray[np.float32]]:
        """Rule on each payment by the lines of the model that decides on it, and explain it.

        What cannot be ruled on or explained for a model beside the champion is the champion's, and
        the model is asked no more. The champion comes last for that.

        Args:
            deciders: Those of ``roles``, changed where a model fails.
        """
        assert self.policy is not None
        n = len(transactions)
        ruled = np.empty(n, dtype=np.uint32)
        features = np.empty((n, N_REASONS), dtype=np.int16)
        contributions = np.empty((n, N_REASONS), dtype=np.float32)
        parts = []
        for number in [*sorted({*deciders.tolist()} - {0}), 0]:
            rows = np.flatnonzero(deciders == number)
            if not len(rows):
                continue
            other = roles.models[number - 1] if number else None
            policy = self.policy if other is None else other.policy
            model = champion if other is None else other.model
            columns: Columns | None = self.panel.columns if other is None else other.columns
            chosen = vectors[rows]
            try:
                part = policy.rule(
                    roles.probabilities[number, rows],
                    flags[rows],
                    [transactions[row] for row in rows.tolist()],
                    key=key,
                    counts=None if self._count_column is None else chosen[:, self._count_column],
                )
                features[rows], contributions[rows] = explain(model, chosen, columns)
            except Exception as error:
                if other is None:
                    raise
                drop(self.panel, other, error, "decided")
                deciders[rows] = 0
                continue
            ruled[rows] = part.flags
            parts.append((rows, part.control))
        return (
            Ruling(ruled, self.policy.hash, joined_control(ruled, parts)),
            features,
            contributions,
        )
