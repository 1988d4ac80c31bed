"""Where versions of the policy are kept; see `sentinel.documents.store`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentinel.documents.open_store import migrate_documents, open_documents
from sentinel.documents.store import DocumentStore, Kind
from sentinel.policy.versions import PolicyVersion, decode_version

if TYPE_CHECKING:
    from sentinel.settings import Settings


POLICY: Final = Kind(
    what="policy",
    list_verb="sentinel policy history",
    decode=decode_version,
    file="policy.db",
    application_id=0x534E5450,  # "SNTP"
    table="policy_versions",
    version_table="policy_schema",
    migrations=Path(__file__).with_name("migrations"),
)


def open_policies(settings: Settings) -> DocumentStore[PolicyVersion]:
    """The versions of a deployment's policy; see `open_documents`."""
    return open_documents(settings, POLICY)


def migrate_policies(settings: Settings) -> None:
    """See `migrate_documents`."""
    migrate_documents(settings, POLICY)
