"""Where packages come from on this machine: pip's settings, read without pip, handed on to uv."""

from __future__ import annotations

import configparser
import os
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path

DEFAULT_INDEX = "https://pypi.org/simple"


class PipSettings:
    """pip's settings, and uv's where it has its own.

    Args:
        values: Long option names of pip -> values, as in pip.conf.
        environment: Environment of the process.
    """

    def __init__(self, values: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._values = values
        self._environment = environment
        self.proxy = values.get("proxy")
        self.timeout_seconds = float(values.get("timeout") or values.get("default-timeout") or 60)

    @classmethod
    def of_this_machine(cls) -> PipSettings:
        """Files first, environment over them, as pip does."""
        home = Path.home()
        files = [
            Path("/etc/xdg/pip/pip.conf"),
            Path("/etc/pip.conf"),
            home / ".pip" / "pip.conf",
            home / "Library" / "Application Support" / "pip" / "pip.conf",
            Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf",
            Path(sys.prefix) / "pip.conf",
            Path(os.environ.get("PIP_CONFIG_FILE") or os.devnull),
        ]
        if os.environ.get("PIP_CONFIG_FILE") == os.devnull:
            files = []  # pip's way to say: no files
        values: dict[str, str] = {}
        for file in files:
            parser = configparser.RawConfigParser()
            try:
                parser.read(file)
            except (configparser.Error, OSError, ValueError) as error:
                print(f"{file} is left out: {error}", file=sys.stderr)
                continue
            for section in ("global", "install"):
                if parser.has_section(section):
                    values |= {key.replace("_", "-"): value for key, value in parser.items(section)}
        for name, value in os.environ.items():
            if name.startswith("PIP_"):
                values[name[4:].lower().replace("_", "-")] = value
        if "REQUESTS_CA_BUNDLE" in os.environ:
            values.setdefault("cert", os.environ["REQUESTS_CA_BUNDLE"])
        return cls(values, os.environ)

    @property
    def places(self) -> list[str]:
        """Indexes and folders of wheels, in the order in which to look.

        >>> PipSettings({"extra-index-url": "https://h/simple"}, {}).places[1:]
        ['https://h/simple']
        >>> PipSettings({"index-url": "a://b"}, {"UV_DEFAULT_INDEX": "c://d"}).places
        ['c://d']
        """
        folders = [word for word in self._find_links if "://" not in word]
        if self._values.get("no-index", "") in {"1", "true", "yes"}:
            return folders
        uv = self._environment
        first = (
            uv.get("UV_DEFAULT_INDEX") or uv.get("UV_INDEX_URL") or self._values.get("index-url")
        )
        more = uv.get("UV_INDEX") or uv.get("UV_EXTRA_INDEX_URL")
        more = more or self._values.get("extra-index-url", "")
        indexes = [first or DEFAULT_INDEX, *more.split()]
        return [re.sub(r"^[\w-]+=", "", index) for index in indexes] + folders  # uv: NAME=URL

    def for_uv(self) -> dict[str, str]:
        """The same settings as uv's environment variables, where uv has none of its own.

        >>> PipSettings({"index-url": "https://h/simple"}, {}).for_uv()["UV_DEFAULT_INDEX"]
        'https://h/simple'
        >>> PipSettings({"index-url": "https://h/simple"}, {"UV_INDEX_URL": "c://d"}).for_uv()
        {'UV_PYTHON_DOWNLOADS': 'never'}
        """
        values, environment = self._values, self._environment
        wanted = {
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_FIND_LINKS": ",".join(self._find_links),
            "UV_HTTP_TIMEOUT": values.get("timeout") or values.get("default-timeout", ""),
            "UV_INSECURE_HOST": values.get("trusted-host", ""),
            "UV_NO_INDEX": values.get("no-index", ""),
            "SSL_CERT_FILE": values.get("cert", ""),
            "SSL_CLIENT_CERT": values.get("client-cert", ""),
            "ALL_PROXY": self.proxy or "",
        }
        if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & environment.keys():
            wanted["UV_DEFAULT_INDEX"] = values.get("index-url", "")
        if not {"UV_INDEX", "UV_EXTRA_INDEX_URL"} & environment.keys():
            wanted["UV_EXTRA_INDEX_URL"] = " ".join(values.get("extra-index-url", "").split())
            # pip takes a file from whichever index has it; what it may be, the hashes say.
            wanted["UV_INDEX_STRATEGY"] = wanted["UV_EXTRA_INDEX_URL"] and "unsafe-best-match"
        return {key: value for key, value in wanted.items() if value and key not in environment}

    @property
    def _find_links(self) -> list[str]:
        """Folders and pages of wheels; pip passes over a missing folder, uv would stop."""
        words = self._values.get("find-links", "").split()
        return [word for word in words if "://" in word or Path(word).is_dir()]

    def tls(self, host: str | None) -> ssl.SSLContext:
        """How to check an index's certificate: `cert` and `trusted-host` as pip means them."""
        context = ssl.create_default_context(cafile=self._values.get("cert") or None)
        trusted = {name.partition(":")[0] for name in self._values.get("trusted-host", "").split()}
        if host in trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the pinned hash still has to match
        return context
