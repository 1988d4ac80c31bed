"""E-mails with a text and an HTML side, and how they get to a mail server."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from typing import Final

import msgspec

from sentinel.domain import ConfigurationError, Unavailable
from sentinel.settings import AlertSettings

TIMEOUT_SECONDS: Final = 10.0
"""Longest wait for one answer of a mail server or a webhook."""
MOST_RECIPIENTS: Final = 100
_DOMAIN: Final = "sentinel.invalid"
_LONGEST_ANSWER: Final = 300


class TakenForSome(Unavailable):
    """The mail server took a message for some of its recipients; these would get it twice if it
    were sent again.
    """


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """What an e-mail says.

    Attributes:
        subject: In one line.
        text: For those who read text alone.
        html: The same, to look at.
        pictures: PNG files by the name that `html` has them by: `cid:NAME`.
        about: Names of what it is about: letters about the same are shown together.
        urgent: Whether it is to be marked as important.
    """

    subject: str
    text: str
    html: str
    pictures: Mapping[str, bytes] = {}
    about: tuple[str, ...] = ()
    urgent: bool = False


def mail_problem(settings: AlertSettings) -> str:
    """Why no mail can be sent by the settings; empty if it can."""
    if not settings.smtp_host:
        return "alerts.smtp_host is not set"
    if not settings.mail_to:
        return "alerts.mail_to is not set"
    return ""


def addresses(listed: str) -> list[str]:
    """Addresses of a list with commas between.

    Raises:
        ConfigurationError: One of them is none, or there are too many.

    >>> addresses("ann@example.com, bob@example.com")
    ['ann@example.com', 'bob@example.com']
    """
    found = [one.strip() for one in listed.split(",") if one.strip()]
    if len(found) > MOST_RECIPIENTS:
        raise ConfigurationError(
            f"{len(found)} recipients of mails are set, at most {MOST_RECIPIENTS} are allowed. "
            "Use the address of a mailing list."
        )
    for one in found:
        try:
            Address(addr_spec=parseaddr(one)[1] or one)
        except (ValueError, IndexError, MessageError) as error:
            raise ConfigurationError(
                f"{one!r} is no e-mail address. Addresses look like ann@example.com."
            ) from error
    return found


def message_of(
    letter: Letter, *, sender: str, to: Sequence[str], now_us: int, message_id: str = ""
) -> EmailMessage:
    """A letter as a message: multipart with text, HTML and the pictures inside.

    Args:
        letter: What it says.
        sender: From whom.
        to: For whom.
        now_us: When, microseconds UTC.
        message_id: Tells whether two are the same; default: a new one.
    """
    message = EmailMessage()
    message["Subject"] = letter.subject.replace("\n", " ")
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = format_datetime(datetime.fromtimestamp(now_us / 1e6, UTC))
    message["Message-ID"] = message_id or make_msgid(domain=_DOMAIN)
    message["Auto-Submitted"] = "auto-generated"  # keeps holiday notes from answering
    if letter.about:
        message["References"] = " ".join(f"<{one}@{_DOMAIN}>" for one in letter.about)
    if letter.urgent:
        message["Importance"] = "high"
    message.set_content(letter.text)
    message.add_alternative(letter.html, subtype="html")
    html = message.get_body(("html",))
    assert html is not None
    for name, png in letter.pictures.items():
        html.add_related(png, "image", "png", cid=f"<{name}>", disposition="inline")
    return message


def send(settings: AlertSettings, message: EmailMessage) -> str:
    """Hand a message to the mail server; returns what it answered.

    Raises:
        TakenForSome: It took the message, but not for all of the recipients.
        Unavailable: It cannot be reached, or took the message for none of the recipients.
        ConfigurationError: Its login or its certificate is not as the settings say, or these hold
            what no mail server can be asked for.
    """
    where = f"The mail server {settings.smtp_host}:{settings.smtp_port}"
    try:
        server = _connected(settings)
        try:
            if settings.smtp_user:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            refused = server.send_message(message)
            with contextlib.suppress(OSError):  # smtplib's errors are such
                server.quit()  # what was taken is taken, whatever is answered to that
        finally:
            server.close()
    except smtplib.SMTPAuthenticationError as error:
        raise ConfigurationError(
            f"{where} refuses the login of {settings.smtp_user}: "
            f"{_said(error.smtp_code, error.smtp_error)}. Correct alerts.smtp_user and "
            "alerts.smtp_password."
        ) from error
    except smtplib.SMTPNotSupportedError as error:
        raise ConfigurationError(
            f"{where} does not do what is set: {error}. See alerts.smtp_tls and alerts.smtp_user."
        ) from error
    except ssl.SSLError as error:
        raise ConfigurationError(
            f"{where} cannot be spoken to securely: {error}. See alerts.smtp_tls and its port."
        ) from error
    except smtplib.SMTPRecipientsRefused as error:
        some = "; ".join(f"{name}: {_said(*why)}" for name, why in error.recipients.items())
        raise Unavailable(f"{where} refuses all recipients: {some}") from error
    except smtplib.SMTPResponseException as error:
        said = _said(error.smtp_code, error.smtp_error)
        raise Unavailable(f"{where} refuses the mail: {said}") from error
    except (OSError, smtplib.SMTPException) as error:
        raise Unavailable(
            f"{where} does not answer: {str(error) or type(error).__name__}"
        ) from error
    except ValueError as error:  # its text may hold a part of the password
        raise ConfigurationError(
            f"{where} cannot be asked: {type(error).__name__}. Correct alerts.smtp_host, "
            "alerts.smtp_user and alerts.smtp_password; name and password are ASCII."
        ) from error
    if refused:
        some = "; ".join(f"{name}: {_said(*why)}" for name, why in refused.items())
        raise TakenForSome(f"{where} took it, but not for all: {some}")
    return f"{settings.smtp_host}:{settings.smtp_port} took it for {message['To']}"


def _connected(settings: AlertSettings) -> smtplib.SMTP:
    """A connection as secure as it is to be."""
    host, port = settings.smtp_host, settings.smtp_port
    here = "localhost" if not socket.gethostname().isascii() else socket.gethostname()
    if settings.smtp_tls == "tls":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(host, port, here, timeout=TIMEOUT_SECONDS, context=context)
    server = smtplib.SMTP(host, port, here, timeout=TIMEOUT_SECONDS)
    if settings.smtp_tls == "starttls":
        try:
            server.starttls(context=ssl.create_default_context())
        except BaseException:
            server.close()
            raise
    return server


def _said(code: int, answer: bytes | str) -> str:
    words = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return f"{code} {' '.join(words.split())}"[:_LONGEST_ANSWER]
