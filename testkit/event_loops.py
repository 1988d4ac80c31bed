"""What is begun on an event loop, for tests that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from sentinel.domain import Transaction
from sentinel.scoring.threads import Threads
from sentinel.state.base import FeatureState, Hands, Reading
from sentinel.state.redis.adding import Added
from sentinel.state.redis.features import SharedFeatures

Told = Callable[[Any, Exception | None], None]


def told_on_loop(begin: Callable[[Hands, Told], bool]) -> tuple[Any, bool]:
    """Begin something on an event loop of its own, and wait for what it is told.

    Returns:
        What it was told (None if nothing was begun), and whether it was begun.

    Raises:
        Exception: What it was told went wrong.
    """
    ((told, begun),) = all_told_on_loop([begin])
    if isinstance(told, Exception):
        raise told
    return told, begun


def all_told_on_loop(begins: Sequence[Callable[[Hands, Told], bool]]) -> list[tuple[Any, bool]]:
    """Begin several things in one turn of an event loop, and wait for what they are told.

    Returns:
        For each what it was told, an exception if that went wrong, and whether it was begun.
    """

    async def run() -> list[tuple[Any, bool]]:
        loop = asyncio.get_running_loop()
        threads: Threads[Any] = Threads("waits", 1, loop.call_soon_threadsafe)
        hands = Hands(loop, threads.do)
        try:
            futures: list[asyncio.Future[Any]] = []
            begun = []
            for begin in begins:
                future: asyncio.Future[Any] = loop.create_future()
                begun.append(begin(hands, partial(_tell, future)))
                if not begun[-1]:
                    future.set_result(None)
                futures.append(future)
            ended = asyncio.gather(*futures, return_exceptions=True)
            return list(zip(await asyncio.wait_for(ended, 60), begun, strict=True))
        finally:
            threads.close()

    return asyncio.run(run())


def _tell(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def add_on_loop(
    features: SharedFeatures,
    transactions: Sequence[Transaction],
    ticket: bytes,
    known_only: Collection[int] = (),
) -> Added | None:
    """`SharedFeatures.begin`; None if it was not begun."""
    added, _ = told_on_loop(
        lambda hands, tell: features.begin(hands, transactions, ticket, known_only, tell)
    )
    assert added is None or isinstance(added, Added)
    return added


def read_on_loop(
    state: FeatureState, transactions: Sequence[Transaction], known_only: Collection[int] = ()
) -> Reading | None:
    """`FeatureState.begin_add`; None if it was not begun."""
    reading, _ = told_on_loop(
        lambda hands, tell: state.begin_add(hands, transactions, known_only, tell)
    )
    assert reading is None or isinstance(reading, Reading)
    return reading
