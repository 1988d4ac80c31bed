"""Every engine computes what the definition says, bit for bit."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.engines import ENGINES, oracle
from tests.features.logs import bits_of, bits_of_values
from tests.features.worlds import World, worlds


def disagreements(world: World, seed: int) -> list[str]:
    """One line for each value in which an engine and the oracle differ."""
    names = world.plan.feature_names
    expected = oracle(world.plan, world.log)
    bits = bits_of_values(expected, len(names))
    found = []
    for name, engine in ENGINES.items():
        vectors = engine(world.plan, world.log, random.Random(seed))
        assert vectors.shape == bits.shape, name
        for row, column in np.argwhere(bits_of(vectors) != bits):
            found.append(
                f"{name}: transaction {row}, {names[column]}: "
                f"{vectors[row, column]!r}, by definition {expected[row][column]!r}"
            )
    return found


@settings(max_examples=3 * settings().max_examples)
@given(worlds(), st.integers(0, 2**16))
def test_every_engine_agrees_with_the_definition(world: World, seed: int) -> None:
    assert disagreements(world, seed) == []
