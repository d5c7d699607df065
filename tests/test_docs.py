"""What the documentation shows is true: its programs run, its tables are those of the source.

The blocks of a document are run in order. A program that serves or guards, in Python or on the
command line, is what the blocks behind it talk to, until the next one; the port of the text (most
often 7788) is one that the system chose. A `text` block is what the program above it prints; a
`console` block without a command is what the last server printed meanwhile.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import io
import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from babel.messages.pofile import read_po

import tieline
import tieline.events
import tieline.framing
import tieline.states
from support.hooks import echo
from support.transports import Secrets
from tieline import CloseReason, LengthPrefix, Limits, Line, blocking
from tieline.cli.exits import Exit
from tieline.event_log import attributes
from tieline.events import Event
from tieline.guard import SETTINGS, GuardSettings
from tieline.limits import LIMIT_OF_REASON, PENALTY_OF_REASON, RULES
from tieline.metrics import exposition

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
GUARD = ROOT / "docs/guard.md"
OBSERVABILITY = ROOT / "docs/observability.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCE = ROOT / "src" / "tieline"


class Block(NamedTuple):
    """A fenced block: what language it says it is in, and its text."""

    kind: str
    text: str


def blocks(path: Path) -> list[Block]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text("utf-8"), re.M | re.S)
    return [Block(kind, text) for kind, text in fenced]


def tables(path: Path) -> list[list[list[str]]]:
    """The cells of every table, without its head."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()[2:]]
        found.append([[cell.strip() for cell in row] for row in rows])
    return found


def table_with(path: Path, first: str) -> list[list[str]]:
    """The table whose first cell is this."""
    return next(table for table in tables(path) if table and table[0][0] == f"`{first}`")


def headings(path: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
    return re.findall(r"^#+ .*$", text, re.M)


# ---- Running what is shown


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TIELINE", "LANG", "LC_"))
    }
    here = str(Path(sys.executable).parent)
    return {**kept, "LC_ALL": "C.UTF-8", "NO_COLOR": "1", "PATH": f"{here}:{os.environ['PATH']}"}


class Program:
    """A server in a process of its own, and what it prints."""

    def __init__(self, *command: str, where: Path, program: str = "") -> None:
        self._process = subprocess.Popen(
            command,
            cwd=where,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,  # what `readline` took ahead, `communicate` would not give
        )
        assert self._process.stdin is not None
        self._process.stdin.write(program.encode())
        self._process.stdin.close()
        self._process.stdin = None
        self.lines: list[str] = []
        while not (found := re.search(r"listening on \S+:(\d+)", self.line())):
            assert self.lines[-1], self.stop()
        self.port = int(found[1])
        self.address = f"127.0.0.1:{self.port}"

    def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode().rstrip("\n")
        self.lines.append(line)
        return line

    def stop(self) -> str:
        """End it in good order. Everything that it has printed."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        rest, _ = self._process.communicate(timeout=20)
        return "\n".join([*self.lines, rest.decode()])

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate(timeout=20)


#: Runs a program that calls `tieline.run`, on a port that the system chooses.
_SERVE = """
import sys
import tieline
serve = tieline.run
tieline.run = lambda handler, *addresses, **options: serve(
    handler,
    *(address.replace(":7788", ":0") for address in addresses),
    ready=lambda server: print("listening on", server.addresses[0], flush=True),
    **options,
)
exec(compile(sys.stdin.read(), "a block of the documentation", "exec"), {"__name__": "__main__"})
"""


def _settled(text: str, port: int, written: str = "7788") -> str:
    """Text without what differs from run to run.

    Args:
        port: on which the server really listens; 0: none.
        written: as which the document knows it.
    """
    if port:
        text = re.sub(rf"\b{port}\b", written, text)
    # What the machine is short of.
    text = re.sub(r"^this machine allows .*\n", "", text, flags=re.M)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<date>", text)
    text = re.sub(r"\d\d:\d\d:\d\d\.\d{3}", "<time>", text)
    # A line of the event log.
    text = re.sub(r"\b(id|duration)=[\d.]+", r"\1=<n>", text)
    return re.sub(r"127\.0\.0\.1:(?!7788\b)\d+", "127.0.0.1:<port>", text).rstrip()


#: A command that serves, up to the port on which it listens.
_LISTENS = re.compile(
    r"(tieline (?:serve\b.*?--port |serve\b.*?--listen \S*:|guard \S*?:))(\d+)\b(.*)", re.S
)


class Reader:
    """Goes through a document and does what it says."""

    def __init__(self, where: Path) -> None:
        self._where = where
        self._server: Program | None = None
        #: The port on which it listens, as it is written.
        self._written = "7788"
        #: What the server is said to print.
        self._said = ""
        self._printed = ""

    def read(self, found: list[Block]) -> None:
        try:
            for block in found:
                if block.kind == "python":
                    self._python(block.text)
                elif block.kind == "text":
                    assert _settled(block.text, 0) == self._as_written(self._printed)
                elif block.kind == "console":
                    self._console(block.text)
            self._stop()
        finally:
            if self._server is not None:
                self._server.kill()

    @property
    def _port(self) -> int:
        return 0 if self._server is None else self._server.port

    def _python(self, text: str) -> None:
        if "tieline.run(" in text:
            self._stop()
            self._server = Program(sys.executable, "-c", _SERVE, where=self._where, program=text)
            self._written = "7788"
            self._said = f"{self._server.lines[0]}\n"
            return
        command = [sys.executable, "-c", text.replace("7788", str(self._port))]
        self._printed = self._run(command)

    def _console(self, text: str) -> None:
        if not text.startswith("$ "):
            self._said += text
            return
        for piece in text.removeprefix("$ ").split("\n$ "):
            command, _, output = piece.partition("\n")
            if command == "make run":
                command = _make_run()
            if (listens := _LISTENS.fullmatch(command)) is not None:
                self._stop()
                before, self._written, behind = listens.groups()
                shown = f"exec {before}0{behind}"
                self._server = Program("sh", "-c", shown, where=self._where)
                self._said = output
                continue
            command = command.replace(self._written, str(self._port))
            printed = self._run(["sh", "-c", command], ok=False)
            assert self._as_written(printed) == _settled(output, 0)

    def _as_written(self, printed: str) -> str:
        return _settled(printed, self._port, self._written)

    def _run(self, command: list[str], ok: bool = True) -> str:
        run = subprocess.run(
            command,
            cwd=self._where,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=30,
            check=False,
        )
        output = run.stdout.decode()
        assert not ok or run.returncode == 0, output
        return output

    def _stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            printed = _settled(server.stop(), server.port, self._written).splitlines()
            said = _settled(self._said, server.port, self._written).splitlines()
            assert printed[: len(said)] == said
        self._said = ""


def _make_run() -> str:
    """What `make run` runs in the end."""
    recipe = re.search(r"tieline serve [^|\n]*", (ROOT / "Makefile").read_text("utf-8"))
    assert recipe is not None
    return recipe[0].replace("$(PORT)", "7788")


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if any(b.kind in ("python", "console") for b in blocks(path))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_what_a_document_shows_is_what_happens(document: Path, tmp_path: Path) -> None:
    Reader(tmp_path).read(blocks(document))


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if any(block.kind == "toml" for block in blocks(path))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_the_settings_that_a_document_shows_are_settings(document: Path, tmp_path: Path) -> None:
    files: list[Path] = []
    for block in blocks(document):
        if block.kind == "toml":
            files.append(tmp_path / f"{len(files)}.toml")
            files[-1].write_text(block.text, "utf-8")
    run = subprocess.run(
        ["tieline", "config", "check", *map(str, files)],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def _settings(where: Path, *command: str) -> dict[tuple[str, str], str]:
    """What holds by a command line, and is no default."""
    run = subprocess.run(
        ["tieline", "config", "show", "--changed", "--json", *command],
        cwd=where,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    places = ("listen", "upstream")  # which may be arguments without a name
    return {
        (row["command"], row["name"]): str(row["value"])
        for row in rows
        if row["name"] not in places
    }


def test_a_recipe_says_the_same_as_a_command_and_as_a_file(tmp_path: Path) -> None:
    recipes = GUARD.read_text("utf-8").partition("\n## Recipes\n")[2].split("\n### ")[1:]
    assert len(recipes) >= 5
    for recipe in recipes:
        path = tmp_path / "recipe.md"
        path.write_text(recipe, "utf-8")
        console, toml = (block.text for block in blocks(path))
        (tmp_path / "recipe.toml").write_text(toml, "utf-8")
        commands = [shlex.split(line)[2:] for line in console.splitlines()]
        told: dict[tuple[str, str], str] = {}
        for command in commands:
            told |= _settings(tmp_path, *command)
        names = [command[0] for command in commands]
        filed = {
            key: value
            for name in names
            for key, value in _settings(tmp_path, "--config", "recipe.toml", name).items()
        }
        assert told == filed, recipe.partition("\n")[0]
        assert told


# ---- Tables


def _written(field: dataclasses.Field[object]) -> str:
    """A default as the documentation writes it."""
    value, unit = field.default, field.metadata["rule"].unit
    if value is None or value == ():
        return "none"
    if isinstance(value, str):
        return value
    assert isinstance(value, (int, float))
    if unit == "seconds":
        return f"{value:g} s"
    if unit == "share":
        return f"{value:g}"
    if unit.endswith(" a second"):
        return f"{value:g} {unit}"
    if unit == "bytes":
        return f"{value / 1024:g} KiB" if value < 1024**2 else f"{value / 1024**2:g} MiB"
    return f"/{value}" if unit == "bits" else f"{value:,}"


def test_the_limits_are_those_of_the_source() -> None:
    """All of them are in docs/limits.md; the READMEs show those that matter most."""
    fields = {f"`{field.name}`": field for field in dataclasses.fields(Limits)}
    with (SOURCE / "locale/zh_CN/LC_MESSAGES/tieline.po").open("rb") as file:
        catalogue = read_po(file)

    def chinese(text: str) -> str:
        message = catalogue.get(text)
        assert message is not None, text
        return str(message.string)

    meanings: list[tuple[Path, Callable[[str], str]]] = [(ENGLISH, str), (CHINESE, chinese)]
    for path, meaning in meanings:
        shown = table_with(path, "idle")
        assert shown == [
            [name, _written(field), meaning(RULES[field.name].help)]
            for name, field in fields.items()
            if name in [row[0] for row in shown]
        ]
        assert len(shown) >= 10
    explained = [row for table in tables(ROOT / "docs/limits.md") for row in table]
    assert [row[:2] for row in explained] == [[name, _written(f)] for name, f in fields.items()]
    assert all(len(row) == 4 and all(row) for row in explained)


def test_the_settings_of_a_guard_are_those_of_the_source() -> None:
    assert table_with(GUARD, "balance") == [
        [f"`{field.name}`", _written(field), SETTINGS[field.name].help]
        for field in dataclasses.fields(GuardSettings)
    ]
    # What each does to whom is told too.
    text = GUARD.read_text("utf-8")
    assert [name for name in SETTINGS if text.count(f"`{name}`") < 2] == []
    own = re.findall(r'= "(\w+)"', (SOURCE / "reasons.py").read_text("utf-8").split("# A guard")[1])
    words = set(own) - {"handler_error"} | {"upstream_closed"}
    assert [word for word in words if f"`{word}`" not in text] == []


def test_the_policy_names_every_limit_that_is_one() -> None:
    """A limit that nobody can find in the policy is none that anybody will use."""
    text = (ROOT / "docs/policy.md").read_text("utf-8")
    sizes = {"max_message", "high_water", "low_water"}
    widths = {name for name in RULES if name.endswith("_prefix")} - {"client_ipv6_prefix"}
    assert [name for name in set(RULES) - sizes - widths if name not in text] == []
    # And the words that come of them.
    policies = {*LIMIT_OF_REASON, *PENALTY_OF_REASON} - {
        CloseReason.MESSAGE_TOO_LARGE, CloseReason.MALFORMED, CloseReason.TRUNCATED,
        CloseReason.UNDECODABLE, CloseReason.TLS_ERROR,
    }  # fmt: skip
    assert [reason for reason in policies if f"`{reason.value}`" not in text] == []
    assert (
        len([line for line in headings(ROOT / "docs/policy.md") if re.match(r"## \d", line)]) == 12
    )


def test_what_is_off_from_the_start_is_said_to_be() -> None:
    rows = table_with(ROOT / "docs/policy.md", "per_client_rate`, `total_rate")
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row[0])]
    limits = Limits()
    for name in named:
        if name in RULES:
            assert getattr(limits, name) in (None, "wait", "refuse"), name
    off = {name for name, rule in RULES.items() if rule.off and getattr(limits, name) is None}
    # A server that is full is spoken of at its place.
    assert off - {"idle_when_full"} <= set(named)


def test_the_events_are_those_of_the_source() -> None:
    kinds = [
        kind
        for kind in vars(tieline.events.named).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    ]
    assert [row[:2] for row in table_with(OBSERVABILITY, "server_started")] == [
        [f"`{kind.name}`", ", ".join(f"`{name}`" for name in _own_fields(kind))] for kind in kinds
    ]


def _own_fields(kind: type[Event]) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.name != "time"]


def test_the_attributes_are_those_of_the_source() -> None:
    kinds = [*Event.__subclasses__()]
    given: dict[str, Any] = {
        "peer": tieline.Address("127.0.0.1", 1),
        "local": tieline.Address("127.0.0.1", 1),
        "addresses": (),
        "changes": (),
        "error": "ValueError: no",
        "reason": CloseReason.ABORTED,
    }
    said = {"tieline.left_out"}
    for kind in kinds:
        said |= set(attributes(kind(**{n: given.get(n, 0) for n in _own_fields(kind)})))
    rows = table_with(OBSERVABILITY, "event.name")
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row[0])]
    assert sorted(named) == sorted(said)


async def test_the_metrics_are_those_of_the_source() -> None:
    async with tieline.serve(echo("responder"), "127.0.0.1:0") as server:
        page = exposition(server)
    wanted = []
    for name, meaning, kind in re.findall(r"# HELP (\S+) (.*)\.\n# TYPE \S+ (\S+)", page):
        label = re.search(rf"^{name}{{(\w+)=", page, re.M)
        wanted.append([f"`{name}`", kind, f"`{label[1]}`" if label else "", meaning])
    assert table_with(OBSERVABILITY, "tieline_connections_accepted_total") == wanted


def test_the_reasons_are_those_of_the_source() -> None:
    comments = dict(
        re.findall(r'= "(\w+)"  #: (.*)', (SOURCE / "reasons.py").read_text("utf-8")),
    )
    assert table_with(ENGLISH, "peer_closed") == [
        [f"`{reason.value}`", comments[reason.value]] for reason in CloseReason
    ]
    words = [f"`{reason.value}`" for reason in CloseReason]
    assert [row[0] for row in table_with(CHINESE, "peer_closed")] == words
    assert [row[0] for row in table_with(ROOT / "docs/closing.md", "peer_closed")] == words


def test_the_framings_are_those_of_the_source() -> None:
    framings = set(tieline.framing.__all__) - {"Codec", "Framing"}
    for path in (ENGLISH, CHINESE, ROOT / "docs/framing-and-charsets.md"):
        shown = [row[0].strip("`").partition("(")[0] for row in table_with(path, "Raw()")]
        assert sorted(shown) == sorted(framings)


def test_the_exit_codes_are_those_of_the_source() -> None:
    rows = table_with(ROOT / "docs/command-line.md", "0")
    assert [int(row[0].strip("`")) for row in rows] == [code.value for code in Exit]


def test_the_states_are_drawn_as_in_the_source() -> None:
    picture = (tieline.states.__doc__ or "").partition("::")[2].strip("\n")
    architecture = (ROOT / "docs/architecture.md").read_text("utf-8")
    for line in picture.splitlines():
        assert line.removeprefix("    ") in architecture


def test_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = [
        *project["project"]["dependencies"],
        *project["build-system"]["requires"],
        *(each for extra in project["project"]["optional-dependencies"].values() for each in extra),
        *project["dependency-groups"]["dev"],
    ]
    names = {re.split(r"[<>=~!\[ ]", each)[0] for each in wanted} - {"tieline"}
    table = {row[0].strip("`") for rows in tables(ROOT / "docs/dependencies.md") for row in rows}
    assert table == names


def test_the_version_has_its_entry() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"## [{tieline.__version__}]" in changes
    assert "## [Unreleased]" in changes


# ---- The picture


def _house() -> ModuleType:
    path = ROOT / "docs/pictures/house.py"
    spec = importlib.util.spec_from_file_location("house", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_what_its_script_draws() -> None:
    house = _house()
    assert house.PICTURE.read_text("utf-8") == house.draw(), "run docs/pictures/house.py"


def test_the_charts_are_what_their_script_draws() -> None:
    command = [sys.executable, str(ROOT / "docs/pictures/bench.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_box_of_the_picture_is_there_and_imports_from_below_only() -> None:
    floors: dict[str, int] = {}
    for number, (_, boxes) in enumerate(reversed(_house().FLOORS)):
        for file, _ in boxes:
            assert (SOURCE / file).is_dir() if file.endswith("/") else (SOURCE / file).is_file()
            floors[file.removesuffix("/").removesuffix(".py")] = number
    for name, floor in floors.items():
        path = SOURCE / name
        for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
            for other in _imported(file):
                assert floors.get(other, -1) <= floor, f"{name} imports {other}, drawn above it"


def _imported(file: Path) -> set[str]:
    """The modules of tieline, of its top level, that a file imports."""
    depth = len(file.relative_to(SOURCE).parts)
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {name.partition(".")[0] for name in names}
    return found


# ---- The two READMEs, and links


def _without_comments(block: Block) -> str:
    if block.kind != "python":
        return block.text
    tokens = tokenize.generate_tokens(io.StringIO(block.text).readline)
    return " ".join(token.string for token in tokens if token.type != tokenize.COMMENT)


def test_the_chinese_readme_says_the_same() -> None:
    def shape(path: Path) -> list[str]:
        return [heading.partition(" ")[0] for heading in headings(path)]

    assert shape(CHINESE) == shape(ENGLISH)
    assert [_without_comments(b) for b in blocks(CHINESE)] == [
        _without_comments(b) for b in blocks(ENGLISH)
    ]
    assert [len(table) for table in tables(CHINESE)] == [len(table) for table in tables(ENGLISH)]
    sections = [path.read_text("utf-8").split("\n## ") for path in (ENGLISH, CHINESE)]
    for english, chinese in zip(*sections, strict=True):
        # The pages that exist in both languages aside, each section leads to the same places.
        assert len(_links(english)) == len(_links(chinese)), english.partition("\n")[0]


def _links(text: str) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for link in _links(document.read_text("utf-8")):
        if link.startswith(("https://", "http://")):
            continue
        target, _, _anchor = link.partition("#")
        assert (document.parent / unquote(target)).exists(), link


def test_every_document_can_be_reached() -> None:
    reached = {ENGLISH, CHINESE}
    while True:
        found = {
            (path.parent / unquote(link.partition("#")[0])).resolve()
            for path in reached
            for link in _links(path.read_text("utf-8"))
            if link.partition("#")[0].endswith(".md") and "://" not in link
        }
        if found <= reached:
            break
        reached |= found
    assert set(DOCUMENTS) <= reached


def test_the_benchmarks_are_quoted_by_their_script() -> None:
    command = [sys.executable, str(ROOT / "scripts/quote-benchmarks"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_short_or_long_has_the_same_figures_in_both_languages() -> None:
    english = (ROOT / "docs/short-or-long.md").read_text("utf-8")
    chinese = (ROOT / "docs/zh-CN/短连接还是长连接.md").read_text("utf-8")

    def figures(text: str) -> dict[str, list[str]]:
        parts = re.findall(r"<!-- ([a-z]+):begin -->\n(.*?)<!-- \1:end -->", text, re.S)
        return {name: re.findall(r"\d[\d,.]*\d|\d", part) for name, part in parts}

    assert set(figures(english)) == {
        "headline", "machine", "times", "processors", "wire", "holding",
    }  # fmt: skip
    assert all(figures(english).values())
    assert figures(english) == figures(chinese)


def test_what_make_is_told_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for path in DOCUMENTS:
        told = set(re.findall(r"`make ([a-z-]+)", path.read_text("utf-8")))
        assert told <= targets, path


# ---- Examples


@contextmanager
def example(name: str, *arguments: str) -> Iterator[Program]:
    """An example that serves, on a port that the system chose."""
    path = ROOT / "examples" / name
    program = Program(sys.executable, str(path), *arguments, "127.0.0.1:0", where=path.parent)
    try:
        yield program
        program.stop()
    finally:
        program.kill()


def test_every_example_is_short_and_says_which_question_it_answers() -> None:
    for path in (ROOT / "examples").glob("*.py"):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 50
        assert "?" in text.partition("\n")[0]
        assert re.search(rf"\b{path.stem}\b", Path(__file__).read_text("utf-8")), path


def test_example_thank_you() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(example("thank_you.py"))
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
            for _ in range(3)
        ]
        for client in reversed(clients):  # whoever came first need not speak first
            client.send("你好".encode("gbk"))
            assert client.recv(1024).decode("gbk") == "thank you !"
            host, port = client.getsockname()
            assert server.line() == f"{host}:{port} says: 你好"


def test_example_chat_room() -> None:
    with (
        example("chat_room.py") as server,
        blocking.connect(server.address, framing=Line(), encoding="utf-8") as one,
    ):
        assert one.receive() == "your name?"
        one.send("甲")
        assert one.receive() == "甲 has come"
        with blocking.connect(server.address, framing=Line(), encoding="gbk") as other:
            assert other.receive() == "your name?"
            other.send("乙")
            assert [member.receive() for member in (one, other)] == ["乙 has come"] * 2
            one.send("你好")
            assert [member.receive() for member in (one, other)] == ["甲: 你好"] * 2
        assert one.receive() == "乙 has left"


def test_example_device_gateway() -> None:
    reading, answer = struct.pack(">If", 7, 21.5), struct.pack(">IB", 7, 0)
    with (
        example("device_gateway.py") as server,
        blocking.connect(server.address, framing=LengthPrefix(2)) as old,
    ):
        old.send(reading)
        assert old.receive() == answer
        assert server.line() == "device 7: 21.5 °C"
        with blocking.connect(server.address, framing=LengthPrefix(2)) as new:
            new.send(reading)
            assert new.receive() == answer
            assert server.line() == "device 7: 21.5 °C"
            with pytest.raises(tieline.ConnectionClosedError):
                old.receive()
            assert old.close_reason is CloseReason.PEER_RESET
        assert server.line() == "device 7 gone: peer_closed"


def test_example_tls_echo(secrets: Secrets, tmp_path: Path) -> None:
    certificate = tmp_path / "both.pem"
    secrets.certificate.private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with example("tls_echo.py", str(certificate)) as server:
        assert blocking.ask(server.address, b"hello", tls=secrets.client) == b"hello"
        assert server.line().endswith("(TLSv1.3): 5 bytes")


def test_example_blocking_client() -> None:
    path = ROOT / "examples" / "blocking_client.py"

    def talk(address: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(path), address, "你好", "再见"],
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    with example("guarded.py") as server:
        assert talk(server.address).stdout == "你好\n再见\n"
    alone = talk(server.address)
    assert alone.returncode == 1
    assert "the connection was refused" in alone.stderr


def test_example_guarded() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(example("guarded.py"))
        held = [
            stack.enter_context(blocking.connect(server.address, framing=Line())) for _ in range(2)
        ]
        for connection in held:
            connection.send(b"hello")
            assert connection.receive() == b"hello"
        with pytest.raises((tieline.ConnectionClosedError, tieline.ConnectError)):
            blocking.ask(server.address, b"hello", framing=Line())
        assert server.line() == "127.0.0.1 refused: client_limit"
        for connection in held:
            connection.close()
            assert re.fullmatch(r"127\.0\.0\.1 peer_closed after \d s, 1 messages", server.line())


def test_the_documentation_speaks_of_the_project_alone() -> None:
    for path in [*DOCUMENTS, *(ROOT / "examples").glob("*.py")]:
        text = path.read_text("utf-8")
        for word in ("/wor" + "k/", "/ho" + "me/", "/tm" + "p/"):
            assert word not in text, path
        for before, after in pairwise(headings(path) if path.suffix == ".md" else []):
            # No heading skips a level.
            assert after.index(" ") <= before.index(" ") + 1, (path, after)
