"""Two scorers over one PostgreSQL ledger and one Redis, as the environment names them.

SENTINEL_LEDGER__URL and SENTINEL_STATE__REDIS_URL name servers whose content may be changed. Every
payment is sent to both scorers at once: both must give the one recorded decision.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx

from sentinel.ledger.open import open_reader
from sentinel.settings import Settings
from testkit.scratch import Server, make_workspace

PAYMENTS = 50
START_SECONDS = 280.0


def main() -> None:
    """Start both, score, and count what the ledger holds."""
    settings = Settings()
    if settings.state.backend != "redis" or not settings.ledger.url:
        sys.exit("Set SENTINEL_LEDGER__URL and SENTINEL_STATE__BACKEND=redis.")
    with open_reader(settings) as ledger:
        before = ledger.last_sequence()
    with tempfile.TemporaryDirectory() as folder:
        scorers = [Server(make_workspace(Path(folder) / name)) for name in ("first", "second")]
        try:
            for scorer in scorers:
                scorer.start(START_SECONDS)
            with ThreadPoolExecutor(len(scorers)) as threads:
                for number in range(PAYMENTS):
                    payment = {
                        "transaction_id": f"smoke-{before}-{number}",
                        "amount_minor": 100 + number,
                        "card_id": f"card-{number % 5}",
                        "merchant_id": "hot",
                    }
                    answers = list(
                        threads.map(
                            lambda scorer, body=payment: httpx.post(
                                f"{scorer.url}/predict", json=body, timeout=30
                            ),
                            scorers,
                        )
                    )
                    scores = {answer.json().get("fraud_probability") for answer in answers}
                    if {answer.status_code for answer in answers} != {200} or len(scores) != 1:
                        sys.exit(f"They do not agree: {[answer.text for answer in answers]}")
        finally:
            for scorer in scorers:
                scorer.kill()
    with open_reader(settings) as ledger:
        recorded = ledger.last_sequence() - before
    if recorded != PAYMENTS:
        sys.exit(f"{PAYMENTS} payments were sent, {recorded} are recorded.")
    print(f"{PAYMENTS} payments through two scorers, each recorded once.")


if __name__ == "__main__":
    main()
