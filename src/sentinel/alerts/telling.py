"""Tells the channels that are set what there is to tell, and remembers how that went."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Final

from sentinel.alerts.letters import letter_of
from sentinel.alerts.mail import addresses, mail_problem, message_of, send
from sentinel.alerts.notices import Notice, next_notice, retry_at_us
from sentinel.alerts.store import AlertStore
from sentinel.alerts.webhook import body_of, post
from sentinel.domain import SentinelError
from sentinel.settings import AlertSettings

log = logging.getLogger(__name__)

_ADDRESS: Final = re.compile(r"[^\s@:;,<>]+@[^\s@:;,<>]+")
"""Who gets mail is no matter of a log."""

MAIL: Final = "mail"
WEBHOOK: Final = "webhook"

Channel = Callable[[Notice], str]
"""Sends a notice; returns what was answered, or raises a `SentinelError`."""


def channels(settings: AlertSettings, deployment: str) -> dict[str, Channel]:
    """The channels that are set, by name."""
    found: dict[str, Channel] = {}
    if not mail_problem(settings):

        def mail(notice: Notice) -> str:
            letter = letter_of(notice, deployment=deployment, runbooks_url=settings.runbooks_url)
            to = addresses(settings.mail_to)
            return send(
                settings,
                message_of(letter, sender=settings.mail_from, to=to, now_us=notice.at_us),
            )

        found[MAIL] = mail
    if settings.webhook_url:

        def webhook(notice: Notice) -> str:
            return post(settings, body_of(notice, deployment=deployment), notice.at_us)

        found[WEBHOOK] = webhook
    return found


def tell(
    store: AlertStore, settings: AlertSettings, channels: Mapping[str, Channel], now_us: int
) -> None:
    """Tell each channel what it is to know by now.

    A channel that fails is logged, noted for `sentinel alerts list` and `doctor`, and tried again
    after a pause that grows; the others are told all the same.

    Args:
        store: Alerts, and what was told of them.
        settings: Give the times.
        channels: By name.
        now_us: When, microseconds UTC.
    """
    held = list(store.held().values())
    acknowledged = store.acknowledged(now_us)
    deliveries = store.deliveries()
    for name, channel in channels.items():
        known = deliveries.get(name)
        if known is not None and now_us < retry_at_us(known):
            continue
        notice = next_notice(held, store.told(name), acknowledged, now_us, settings)
        if notice is None:
            continue
        try:
            channel(notice)
        except SentinelError as error:
            failed = store.note_failed(name, str(error), now_us)
            pause = (retry_at_us(failed) - now_us) / 1e6
            log.warning(
                "Alerts could not be told by %s. %s It is tried again in %.0f s.",
                name,
                _ADDRESS.sub("[an address]", str(error)),
                pause,
            )
        else:
            store.note_told(name, notice.alerts, now_us)
            log.info("Told %d alerts by %s.", len(notice.alerts), name)
