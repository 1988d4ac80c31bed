"""Fetches the pinned uv from the configured package index with the standard library alone."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import io
import json
import os
import platform
import re
import sys
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

from pip_settings import PipSettings


def install_uv(root: Path, settings: PipSettings) -> Path:
    """Put the pinned uv into .uv/, unless it is there.

    Returns:
        Path of the executable.
    """
    version, hashes = pinned_uv((root / "requirements" / "bootstrap.txt").read_text())
    uv = root / ".uv" / version / "uv"
    if uv.exists():
        return uv
    print(f"Fetching uv {version}", file=sys.stderr)
    wheel = fetch_wheel(version, hashes, settings)
    uv.parent.mkdir(parents=True, exist_ok=True)
    partial = uv.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        partial.write_bytes(archive.read(f"uv-{version}.data/scripts/uv"))
    partial.chmod(0o755)
    partial.replace(uv)
    return uv


def pinned_uv(text: str) -> tuple[str, set[str]]:
    """Version and acceptable hashes in a requirement file.

    >>> pinned_uv("uv==1.2.3 --hash=sha256:ab --hash=sha256:cd") == ("1.2.3", {"ab", "cd"})
    True
    """
    version = re.search(r"^uv==(\S+)", text, re.MULTILINE)
    hashes = set(re.findall(r"--hash=sha256:([0-9a-f]+)", text))
    if not version or not hashes:
        sys.exit("requirements/bootstrap.txt pins no uv; `git checkout requirements` mends it.")
    return version[1], hashes


def fetch_wheel(version: str, hashes: set[str], settings: PipSettings) -> bytes:
    """The wheel of uv for this machine, from the first place that has it.

    Raises:
        SystemExit: No place has it, or what came is not what was pinned.
    """
    complaints = []
    for place in settings.places:
        try:
            links = links_at(place, settings)
            name = best_wheel([name for name in links if name.startswith(f"uv-{version}-")])
            if name is None:
                complaints.append(f"{redact(place)} has no uv {version} for {platform.machine()}")
                continue
            wheel, _ = read(links[name], settings)
        except (OSError, ValueError) as error:
            complaints.append(f"{redact(place)}: {explain(error)}")
            continue
        found = hashlib.sha256(wheel).hexdigest()
        if found not in hashes:
            sys.exit(f"{name} from {redact(place)} has hash {found}, which is not pinned.")
        return wheel
    sys.exit("Could not fetch uv. " + "; ".join(complaints))


def links_at(place: str, settings: PipSettings) -> dict[str, str]:
    """File name -> address, of an index's files of uv or of a folder's wheels."""
    if "://" not in place:
        return {file.name: file.resolve().as_uri() for file in Path(place).glob("uv-*.whl")}
    page = place.rstrip("/") + "/uv/"
    return links_of(*read(page, settings), page)


def read(url: str, settings: PipSettings) -> tuple[bytes, str]:
    """Body and content type behind an address, which may carry a user and a password."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file" and url.endswith("/"):
        parts = parts._replace(path=parts.path + "index.html")
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(urllib.parse.urlunsplit(parts._replace(netloc=host)))
    request.add_header("Accept", "application/vnd.pypi.simple.v1+json, text/html;q=0.5, */*;q=0.1")
    if parts.username:
        user, password = (urllib.parse.unquote(x or "") for x in (parts.username, parts.password))
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    handlers: list[urllib.request.BaseHandler] = [
        urllib.request.HTTPSHandler(context=settings.tls(parts.hostname))
    ]
    if settings.proxy:
        proxies = {"http": settings.proxy, "https": settings.proxy}
        handlers.append(urllib.request.ProxyHandler(proxies))
    opener = urllib.request.build_opener(*handlers)
    with opener.open(request, timeout=settings.timeout_seconds) as answer:
        return answer.read(), answer.headers.get("Content-Type", "")


def links_of(body: bytes, content_type: str, page: str) -> dict[str, str]:
    """File name -> address, from a page of a package index (PEP 691 JSON or PEP 503 HTML).

    >>> page = b'<a href="../../f/uv-1-any.whl#sha256=0">uv-1-any.whl</a>'
    >>> links_of(page, "text/html", "https://h/simple/uv/")
    {'uv-1-any.whl': 'https://h/f/uv-1-any.whl'}
    """
    if "json" in content_type:
        found = [file["url"] for file in json.loads(body)["files"]]
    else:
        found = []

        class Anchors(html.parser.HTMLParser):
            def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
                href = dict(attrs).get("href")
                if tag == "a" and href:
                    found.append(href)

        Anchors().feed(body.decode())
    base = urllib.parse.urlsplit(page)
    links = {}
    for link in found:
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(page, link))
        if "@" in base.netloc and parts.netloc == base.netloc.rpartition("@")[2]:
            parts = parts._replace(netloc=base.netloc)  # what protects the page protects the file
        name = urllib.parse.unquote(parts.path.rpartition("/")[2])
        links[name] = urllib.parse.urlunsplit(parts._replace(fragment=""))
    return links


def best_wheel(
    names: list[str], system: str = "", machine: str = "", libc: tuple[str, str] | None = None
) -> str | None:
    """The wheel that runs here.

    >>> wheels = ["uv-1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    ...           "uv-1-py3-none-musllinux_1_1_x86_64.whl", "uv-1-py3-none-macosx_11_0_arm64.whl"]
    >>> best_wheel(wheels, "Linux", "x86_64", ("glibc", "2.36"))
    'uv-1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl'
    >>> best_wheel(wheels, "Linux", "x86_64", ("", ""))
    'uv-1-py3-none-musllinux_1_1_x86_64.whl'
    >>> best_wheel(wheels, "Darwin", "arm64")
    'uv-1-py3-none-macosx_11_0_arm64.whl'
    >>> best_wheel(wheels, "Windows", "AMD64")
    """
    system = system or platform.system()
    machine = machine or platform.machine()
    kind, release = libc if libc is not None else platform.libc_ver()
    release_numbers = tuple(int(part) for part in release.split(".") if part.isdigit())

    def rank(name: str) -> int:
        best = 0
        for tag in name.removesuffix(".whl").rpartition("-")[2].split("."):
            match = re.fullmatch(r"(manylinux|musllinux|macosx)_(\d+)_(\d+)_(\w+)", tag)
            if not match or match[4] != machine:
                continue
            needed = (int(match[2]), int(match[3]))
            if match[1] == "macosx":
                best = max(best, system == "Darwin")
            elif system == "Linux" and match[1] == "manylinux" and kind == "glibc":
                best = max(best, 2 * (release_numbers >= needed))
            elif system == "Linux" and match[1] == "musllinux":
                best = max(best, 1)  # linked statically: runs on any Linux
        return best

    usable = [name for name in names if name.endswith(".whl") and rank(name)]
    return max(usable, key=rank, default=None)


def explain(error: Exception) -> str:
    """What went wrong, and what to do where we know."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its certificate can't be checked: install ca-certificates, or set PIP_CERT"
    return str(error)


def redact(url: str) -> str:
    """An address without its user and password.

    >>> redact("https://me:secret@h/simple")
    'https://h/simple'
    """
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
