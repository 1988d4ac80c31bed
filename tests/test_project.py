"""The project itself: what it ships, pins and promises stays true."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import document_aggregates
import document_settings
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sentinel.settings import Settings
from sentinel.sources.progress import STAGE_WORDS

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ["airflow", "api", "base", "bootstrap", "dashboard", "dev", "mlflow"]

VENDORS = {
    # A vendor -> the folders or modules that may import it, lazily or not.
    "aiosmtpd": [],
    "airflow": [],
    "alembic": [
        "access/migrations",
        "drift/migrations",
        "experiments/migrations",
        "ledger",
        "policy/migrations",
    ],
    "argon2": ["dashboard/login"],
    "authlib": ["dashboard/login"],
    "boto3": ["object_store"],
    "botocore": ["object_store"],
    "cryptography": ["models/signing_keys"],
    "duckdb": ["ledger", "pipeline", "retrieval", "sources"],
    "evidently": ["pipeline/evidently_page"],
    "fastapi": ["api"],
    "feast": ["feast_plugin"],
    "httptools": ["api"],
    "lightgbm": ["models/families"],
    "mlflow": ["models/registry", "models/registry_place", "pipeline"],
    "numba": ["features", "models"],
    "psycopg": ["ledger"],
    "opentelemetry": ["telemetry/tracing"],
    "optuna": ["pipeline"],
    "river": ["models/river_learner"],
    "hiredis": ["state"],
    "redis": ["state"],
    "sklearn": ["models/families", "pipeline"],
    "sqlalchemy": ["feast_plugin", "ledger", "pipeline/mlflow_database"],
    "starlette": ["api", "dashboard/login", "dashboard/serve"],
    "streamlit": ["dashboard"],
    "typeguard": ["feast_plugin/__init__"],
    "typer": ["cli"],
    "uvicorn": ["api"],
    "xgboost": ["models/families"],
}


@cache
def tracked() -> list[Path]:
    """What git has or would add, links too; in an unpacked archive, what .gitignore lets in."""
    with tempfile.TemporaryDirectory() as empty:
        if (ROOT / ".git").exists():
            command = ["git", "-c", "safe.directory=*"]
        else:
            subprocess.run(["git", "init", "--quiet", "--bare", empty], check=True)
            command = ["git", f"--git-dir={empty}", f"--work-tree={ROOT}"]
        listed = subprocess.run(
            [*command, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def tracked_files() -> list[Path]:
    """The files of these."""
    return [path for path in tracked() if path.is_file()]


def tracked_text() -> Iterator[tuple[str, str]]:
    for path in tracked_files():
        try:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def pins(lock: str) -> dict[str, str]:
    """Name -> version (markers left out) of a lock."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def direct(*extras: str) -> list[Requirement]:
    project = PYPROJECT["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


# ------------------------------------------------------------------------------------------ locks


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_and_no_path(lock: str) -> None:
    for line in (ROOT / "requirements" / f"{lock}.txt").read_text().splitlines():
        assert not re.search(r"\w+://|^-|--(?:index|extra-index|find-links|trusted)|@ |^\s*/", line)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_hashes(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


@pytest.mark.parametrize(
    ("lock", "extras"), [("airflow", ["airflow"]), ("base", []), ("dev", ["dev"])]
)
def test_every_direct_dependency_is_locked_within_its_bounds(lock: str, extras: list[str]) -> None:
    locked = pins(lock)
    for requirement in direct(*extras):
        version = locked.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in {lock}.txt: run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement} is locked at {version}: run `make lock`"
        )


def test_what_is_tested_is_what_runs() -> None:
    assert pins("base").items() <= pins("dev").items()
    for image in ("api", "dashboard", "mlflow"):
        assert pins(image).items() <= pins("base").items()


def test_what_is_installed_is_what_is_locked() -> None:
    locked = pins("dev")
    for requirement in direct("dev"):
        if requirement.marker is None or requirement.marker.evaluate():
            name = canonicalize_name(requirement.name)
            assert importlib.metadata.version(name) == locked[name], "run `make install`"


def test_uv_can_build_the_project_with_the_backend_it_has_inside() -> None:
    (build,) = (Requirement(line) for line in PYPROJECT["build-system"]["requires"])
    assert build.name == "uv_build"
    assert build.specifier.contains(pins("bootstrap")["uv"])


# ---------------------------------------------------------------------------------------- version


def test_the_version_has_one_source() -> None:
    version = PYPROJECT["project"]["version"]
    assert importlib.metadata.version("sentinel-fraud") == version
    for name, text in tracked_text():
        if name.startswith("src/") and name.endswith(".py"):
            assert not re.search(r"""__version__\s*=\s*["']\d""", text), name


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    versions = [re.match(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", line) for line in headings[1:]]
    assert all(versions), "a release reads: ## [1.2.3] - 2026-01-31"


# --------------------------------------------------------------------------------- tracked files


def test_no_tracked_file_names_a_developers_machine() -> None:
    # Spelled so that this file does not find itself.
    machine = re.compile(
        r"/(?:home|Users)/(?!newcomer\b|user\b)[a-z]+/|/" + r"work/|/" + r"root/\."
    )
    found = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in tracked_text()
        for number, line in enumerate(text.splitlines(), 1)
        if machine.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_tracked_file_holds_a_secret() -> None:
    secret = re.compile(
        r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}"
        r"|\bxox[abpr]-[0-9A-Za-z-]{10,}|\bsk-[A-Za-z0-9]{32,}|\bpypi-[A-Za-z0-9_-]{50,}"
        r"|://[^\s/:@{}$<>()|]+:(?!secret@|password@)[^\s/:@{}$<>()|]{6,}@"
    )
    found = [name for name, text in tracked_text() if secret.search(text)]
    assert not found


def test_no_tracked_file_is_large() -> None:
    large = [str(path) for path in tracked_files() if path.stat().st_size > 1_500_000]
    assert not large


def test_decisions_are_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    missing = [page.name for page in folder.glob("[0-9]*.md") if f"({page.name})" not in index]
    assert not missing


# ----------------------------------------------------------------------------------- architecture


def test_every_path_of_the_map_exists() -> None:
    page = ROOT / "docs" / "architecture.md"
    named = re.findall(r"`([\w.-]+(?:/[\w.-]*)+|\w+\.(?:py|toml))`", page.read_text())
    assert len(named) > 80
    places = (ROOT / "src" / "sentinel", ROOT)
    missing = [path for path in named if not any((place / path).exists() for place in places)]
    assert not missing


def test_every_room_is_on_the_map() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "src" / "sentinel"
    rooms = [p.name for p in package.iterdir() if (p / "__init__.py").exists()]
    assert not [room for room in rooms if f"`{room}/`" not in page and room != "examples"]


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in reached:
            continue
        reached.add(page)
        for link in re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", page.read_text()):
            target = (page.parent / link).resolve()
            if "://" not in link and target.exists():
                left.append(target)
    pages = [p for p in (ROOT / "docs").rglob("*.md") if p.name != "000-template.md"]
    assert not [str(p.relative_to(ROOT)) for p in pages if p not in reached]


# --------------------------------------------------------------------------------------- settings


def test_every_stage_of_progress_has_words() -> None:
    named = {
        stage
        for path in (ROOT / "src").rglob("*.py")
        for stage in re.findall(r'progress\("([a-z]+)"', path.read_text(encoding="utf-8"))
    }
    assert {"backfill", "begin", "days"} <= named
    assert named <= STAGE_WORDS.keys()


def test_every_setting_is_documented() -> None:
    assert document_settings.PAGE.read_text() == document_settings.page(), "run `make docs`"


def test_every_aggregate_is_documented() -> None:
    for path, table in document_aggregates.tables().items():
        assert path.read_text() == document_aggregates.page(path, table), "run `make docs`"


def test_every_setting_says_what_it_does() -> None:
    silent = [path for path, field in document_settings.fields(Settings) if not field.description]
    assert not silent


# ---------------------------------------------------------------------------------------- vendors


def test_a_vendor_is_imported_only_where_it_is_wrapped() -> None:
    package = ROOT / "src" / "sentinel"
    found = []
    for path in package.rglob("*.py"):
        module = path.relative_to(package).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for vendor in {name.partition(".")[0] for name in names} & VENDORS.keys():
                allowed = VENDORS[vendor]
                if not any(module == place or module.startswith(f"{place}/") for place in allowed):
                    found.append(f"{module} imports {vendor}; only {allowed} may")
    assert not found, "\n".join(found)


def test_the_feast_plugin_keeps_only_what_imports_feast() -> None:
    """What does without it is of use where Feast is not; it has its place in other rooms."""
    modules = (ROOT / "src" / "sentinel" / "feast_plugin").glob("*.py")
    without = [p.name for p in modules if "feast" not in imported_by(p)]
    assert without == []


# ---------------------------------------------------------------------------------------- testkit


def imported_by(path: Path) -> set[str]:
    """The packages that a Python file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("folder", "may_not_import"),
    [
        ("src", {"benchmarks", "testkit", "tests"}),
        ("testkit", {"benchmarks", "tests"}),
        ("benchmarks", {"tests"}),
    ],
)
def test_the_product_knows_no_tests_and_the_testkit_knows_neither_side(
    folder: str, may_not_import: set[str]
) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    wrong = {str(path): found for path in files if (found := imported_by(path) & may_not_import)}
    assert not wrong


def test_only_the_tests_of_benchmarks_import_benchmarks() -> None:
    files = [path for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "benchmarks"]
    assert not [path for path in files if "benchmarks" in imported_by(path)]
