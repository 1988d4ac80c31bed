"""Finds the programs that Python files and shell scripts call, by reading them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

CALLS = {
    f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")
} | {"shutil.which", "os.execv", "os.execvp"}
ASKS = {"needed", "program"}  # of testkit/servers.py
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_KEYWORDS = "if then elif else fi for while until do done case esac in { } ! ( ) time"
_BUILTINS = """
    . : [ [[ alias break cd command continue echo eval exec exit export false getopts hash kill
    local printf pwd read readonly return set shift source test times trap true type ulimit umask
    unalias unset wait
"""
NO_PROGRAMS = {*_KEYWORDS.split(), *_BUILTINS.split()}
_BEFORE_A_COMMAND = "&& || | ; & ( { ! if then elif else while until do exec"
COMMAND_FOLLOWS = {*_BEFORE_A_COMMAND.split(), "\n", "$(", "`"}
_TOKEN = re.compile(
    r"""
    \#[^\n]* | \\\n | '[^']*' | "(?:\\.|\$\([^()]*(?:\([^()]*\)[^()]*)*\)|[^"\\])*"
    | \$\(\( | \$\{[^}]*\} | \$\( | \)\) | && | \|\| | ;; | \d*[<>]+&?-? | [|;&()\n`]
    | \\. | [^\s"'\\$|;&()<>`]+ | \$
    """,
    re.VERBOSE,
)


# ------------------------------------------------------------------------------------------ Python


def called_by_python(text: str) -> set[str]:
    """Programs that a file starts through `subprocess`, or looks for.

    >>> sorted(called_by_python('subprocess.run(["git", "-C", where]); shutil.which("wrk")'))
    ['git', 'wrk']
    >>> called_by_python('subprocess.run([str(uv), "pip"]); self.call("migrate")')
    set()
    """
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and node.args and _starts_or_asks(node.func):
            first = node.args[0]
            found |= _texts(first.elts[:1] if isinstance(first, ast.List) else [first])
    return {word for word in found if NAME.fullmatch(word)}


def commands_in_python(text: str) -> set[str]:
    """First words of lists that may be commands: those with an option among the further words.

    >>> sorted(commands_in_python('wrapper = ("strace", "-f"); names = ["mcc", "city"]'))
    ['strace']
    """
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.List | ast.Tuple):
            if any(word.startswith("-") for word in _texts(node.elts[1:])):
                found |= _texts(node.elts[:1])
    return {word for word in found if NAME.fullmatch(word)}


def paths_in_python(text: str) -> set[str]:
    """Programs and libraries named by where Debian puts them.

    >>> paths_in_python('CHROMIUM = Path("/usr/bin/chromium"); HOME = "/home/user"')
    {'/usr/bin/chromium'}
    """
    texts = {
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in texts if re.fullmatch(r"/(usr/)?(s?bin|lib)/[\w./-]+", text)}


def _starts_or_asks(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return f"{function.value.id}.{function.attr}" in CALLS
    return isinstance(function, ast.Name) and function.id in ASKS


def _texts(elements: list[ast.expr]) -> set[str]:
    return {
        element.value
        for element in elements
        if isinstance(element, ast.Constant) and isinstance(element.value, str)
    }


# ------------------------------------------------------------------------------------------- shell


def called_by_shell(text: str) -> set[str]:
    """Programs that a shell script calls: first words of commands that are no function of its own.

    >>> sorted(called_by_shell('''
    ...   say() { printf '%s' "$1"; }   # grep
    ...   cat <<END | tr a b
    ...   docker is not installed
    ... END
    ...   x=$(sed s/a/b/ f) LC_ALL=C awk "{ print $(date +%s) }" && say hello
    ...   case $x in
    ...     yes | y) cp a b ;;
    ...   esac
    ...   command -v wrk >/dev/null || exec strace -f true
    ... '''))
    ['awk', 'cat', 'cp', 'date', 'sed', 'strace', 'tr', 'wrk']
    """
    functions = set(re.findall(r"\b(\w+)\(\) *\{", text))
    text = re.sub(r"\b\w+\(\) *\{", "{", text)
    text = re.sub(r"<<-?\s*'?\"?(\w+)'?\"?(.*)\n(?:.*\n)*?\s*\1\n", r"\2\n", text)
    found = set(_commands(text))
    return {word for word in found if NAME.fullmatch(word)} - functions - NO_PROGRAMS


def _commands(text: str) -> Iterator[str]:
    starts, pattern, redirected, after_command = True, False, False, False
    cases = 0
    resumes: list[bool] = []  # for each open bracket: whether a command may begin after it
    for token in _TOKEN.findall(text):
        if token.startswith("#"):
            continue
        if token.startswith('"'):
            for inside in re.findall(r"\$\(((?:[^()]|\([^()]*\))*)\)", token):
                yield from _commands(inside)
        if token == "\\\n":
            continue
        if redirected:
            redirected = False
        elif re.fullmatch(r"\d*[<>]+", token):
            redirected = True
        elif token == "esac":
            cases, pattern, starts = cases - 1, False, False
        elif pattern:  # of a case: up to its bracket
            if token == ")":
                pattern, starts = False, True
        elif token == "in" and cases and not starts:
            pattern = True
        elif token == ";;":
            pattern, starts = True, False
        elif token in COMMAND_FOLLOWS:
            if token in {"$(", "("}:
                resumes.append(starts and token == "$(")
            starts, after_command = True, False
        elif token == ")":
            starts = resumes.pop() if resumes else False
        elif starts and token == "case":
            cases, starts = cases + 1, False
        elif starts and re.match(r"\w+=", token):
            after_command = False
        elif starts and token == "command":
            after_command = True
        elif starts and not (after_command and token.startswith("-")):
            yield token
            starts = after_command = False
