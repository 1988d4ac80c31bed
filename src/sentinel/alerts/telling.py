"""Tells the channels that are set what there is to tell, and remembers how that went."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Final

from sentinel.alerts.letters import letter_of
from sentinel.alerts.mail import TakenForSome, addresses, mail_problem, message_of, send
from sentinel.alerts.notices import Notice, next_notice, retry_at_us
from sentinel.alerts.states import Held, Key
from sentinel.alerts.store import AlertStore, Delivery
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
    if settings.webhook_url.get_secret_value():

        def webhook(notice: Notice) -> str:
            return post(settings, body_of(notice, deployment=deployment), notice.at_us)

        found[WEBHOOK] = webhook
    return found


def tell(
    store: AlertStore,
    settings: AlertSettings,
    channels: Mapping[str, Channel],
    now_us: int,
    held: Mapping[Key, Held] | None = None,
) -> None:
    """Tell each channel what it is to know by now.

    A channel that fails is logged, noted for `sentinel alerts list` and `doctor`, and tried again
    after a pause that grows; the others are told all the same, even if nothing can be noted.

    Args:
        store: Alerts, and what was told of them.
        settings: Give the times.
        channels: By name.
        now_us: When, microseconds UTC.
        held: Alerts as they are; default: as the store has them.

    Raises:
        LedgerUnavailable, WorkspaceError: The file cannot be read, or what was told could not be
            noted in it. The store remembers it for as long as the process runs.
    """
    alerts = list((store.held() if held is None else held).values())
    unwritten: SentinelError | None = None
    for name, channel in channels.items():
        known = store.known(name, now_us)
        unwritten = known.problem or unwritten
        if known.delivery is not None and _waits(known.delivery, now_us):
            continue
        notice = next_notice(alerts, known.told, known.acknowledged, now_us, settings)
        if notice is None:
            continue
        problem, taken = _sent(channel, notice)
        try:
            if taken:
                store.note_told(name, notice.alerts, now_us, problem)
                log.info("Told %d alerts by %s.", len(notice.alerts), name)
            else:
                failed = store.note_failed(name, problem, now_us)
                pause = (retry_at_us(failed) - now_us) / 1e6
                problem += f" It is tried again in {pause:.0f} s."
        except SentinelError as error:
            unwritten = error
        if problem:
            log.warning(
                "Alerts could not be told by %s%s. %s",
                name,
                " to everybody" if taken else "",
                _ADDRESS.sub("[an address]", problem),
            )
    if unwritten is not None:
        raise unwritten


def _waits(delivery: Delivery, now_us: int) -> bool:
    """Whether a channel that failed is left alone for now; not where the clock was set back."""
    return delivery.failed_at_us <= now_us < retry_at_us(delivery)


def _sent(channel: Channel, notice: Notice) -> tuple[str, bool]:
    """What was wrong, empty if nothing, and whether the notice was taken."""
    try:
        channel(notice)
    except TakenForSome as error:
        return str(error), True
    except SentinelError as error:
        return str(error), False
    except Exception as error:
        # A setting that a library stumbles over must not keep the other channel from being told.
        log.exception("A channel of alerts failed.")
        return f"{type(error).__name__}; the log of the monitor says where.", False
    return "", True
