"""A process that serves gets its gatekeeper here; without a key it serves this machine alone."""

from __future__ import annotations

import ipaddress
import logging
from functools import partial

from sentinel.access.open_store import open_store
from sentinel.access.pepper import pepper_of
from sentinel.access.principals import Gatekeeper
from sentinel.domain import ConfigurationError
from sentinel.settings import Settings

log = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. A name other than localhost may be anything.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "api")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def open_gatekeeper(settings: Settings) -> Gatekeeper:
    """The gatekeeper of a process that serves, with the keys that there are. Waits for the store.

    Raises:
        ConfigurationError: There is no key, and others than this machine could call; or the keys
            cannot be checked by this process.
        WorkspaceError: What keeps the keys cannot be used.
        LedgerUnavailable: It cannot be reached.
    """
    gatekeeper = Gatekeeper(
        open_store(settings),
        partial(pepper_of, settings),
        outage_seconds=settings.access.outage_seconds,
    )
    try:
        gatekeeper.start()
        check_exposure(settings, has_keys=not gatekeeper.is_open)
    except BaseException:
        gatekeeper.close()
        raise
    if gatekeeper.is_open:
        log.info(
            "There is no key yet: anyone on this machine may call. `sentinel keys create` makes "
            "the first one, and closes the door."
        )
    return gatekeeper


def has_keys(settings: Settings) -> bool:
    """Whether a deployment has ever had a key.

    Raises:
        LedgerUnavailable, WorkspaceError: What keeps the keys cannot be reached or used.
    """
    store = open_store(settings)
    try:
        return store.version() > 0
    finally:
        store.close()


def check_exposure(settings: Settings, *, has_keys: bool) -> None:
    """Serve others than this machine only where there are keys.

    Raises:
        ConfigurationError: There is none, and `api.host` is no loopback address.
    """
    if not has_keys and not is_loopback(settings.api.host):
        workspace = f" --workspace {settings.workspace}"
        raise ConfigurationError(
            f"The scoring API would listen on {settings.api.host}, and anyone who reaches it could "
            "come in: there is no key yet. Make one for the tools of this workspace and one for "
            f"who sends payments:\n  sentinel keys create tools --for-tools{workspace}\n"
            f"  sentinel keys create shop --scope score{workspace}\n"
            "or serve this machine alone, with SENTINEL_API__HOST=127.0.0.1."
        )
