"""Messages in Chinese, complete; help screens that fit; settings from everywhere."""

from __future__ import annotations

import json
import re
import string
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cli import catalogue
from cli.command_process import Tieline
from tieline import DeadlineError
from tieline.cli import translation
from tieline.cli.visible import width

VERBS = [
    "info", "connections", "connection", "clients", "bans", "metrics", "watch", "tap", "limits",
    "kick", "ban", "unban", "drain",
    "upstreams", "upstream", "settings",
]  # fmt: skip
GROUPS = ["", "ctl", "config"]
COMMANDS = [
    "serve", "guard", "connect", "send", "bench", "bench diff", "trace", "doctor", "completion",
    "config check", "config show",
    *(f"ctl {verb}" for verb in VERBS),
]  # fmt: skip


def ids(message: Any) -> tuple[str, ...]:
    return (message.id,) if isinstance(message.id, str) else tuple(message.id)


def placeholders(text: str) -> set[str]:
    """Names in braces, and the conversions of a log message."""
    named = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    return named | set(re.findall(r"%[.\d]*[sdf]", text))


def test_every_message_is_translated() -> None:
    known = {id for message in catalogue.catalogue() for id in ids(message)}
    missing = {text: file for text, file in catalogue.messages().items() if text not in known}
    assert not missing


def test_nothing_is_left_over() -> None:
    wanted = set(catalogue.messages())
    left = [
        message.id
        for message in catalogue.catalogue()
        if message.id and "click" not in message.auto_comments and not wanted & set(ids(message))
    ]
    assert not left


def test_translations_are_whole() -> None:
    catalog = catalogue.catalogue()
    assert not [message.id for message in catalog if message.fuzzy]
    for message in catalog:
        if not message.id:
            continue
        texts = (message.string,) if isinstance(message.string, str) else message.string or ()
        assert texts, message.id
        for text in texts:
            assert text, message.id
            assert placeholders(text) == placeholders(ids(message)[-1]), message.id


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh_CN"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "zh_CN.GB18030"}, "zh_CN"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "de:zh_CN:en"}, "zh_CN"),
        ({"LANG": "zh_SG"}, "zh_CN"),
        ({"LANG": "zh_TW.UTF-8"}, "en"),
        ({"LANG": "", "LC_ALL": ""}, "en"),
    ],
)
def test_the_language_of_an_environment(environment: dict[str, str], language: str) -> None:
    assert translation.language_of(environment) == language


def test_an_errors_words_are_translated_and_its_values_are_not(
    english: Callable[[str], None],
) -> None:
    error = DeadlineError(doing="connecting to", seconds=2.0, address="or:1")
    assert translation.sentence(error) == "connecting to or:1 took longer than 2.0 s"
    english("zh_CN")
    assert translation.sentence(error) == "连接 or:1 超过了 2.0 秒"


@pytest.mark.parametrize("language", ["en", "zh_CN"])
@pytest.mark.parametrize("command", [*GROUPS, *COMMANDS])
def test_help_fits_a_screen(tieline: Tieline, command: str, language: str) -> None:
    running = tieline.run(*command.split(), "-h", LANG=f"{language}.UTF-8")
    lines = running.out.splitlines()
    assert running.code == 0
    assert len(lines) <= 24
    assert max(map(width, lines)) <= 80
    # Examples first: before the usage.
    assert lines[2].startswith(("  tieline", '  eval "$(tieline'))
    assert lines.index("") < [line.startswith(("Usage", "用法")) for line in lines].index(True)


@pytest.mark.parametrize("language", ["en", "zh_CN"])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_whole_help_fits_its_width(tieline: Tieline, command: str, language: str) -> None:
    running = tieline.run(*command.split(), "--help-all", LANG=f"{language}.UTF-8")
    assert running.code == 0
    assert max(map(width, running.out.splitlines())) <= 80
    if language == "zh_CN":
        texts = [line[28:] for line in running.out.splitlines() if line[26:28] == "  "]
        assert not [text for text in texts if text and text.isascii()]


def test_every_limit_is_a_flag() -> None:
    import dataclasses

    from tieline import Limits
    from tieline.cli.options import keys
    from tieline.cli.serve import command

    assert {field.name.replace("_", "-") for field in dataclasses.fields(Limits)} <= keys(command)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "--port", "x"], "'-p' / '--port' 的值无效：'x' 不是端口号"),
        (["serve", "--prot", "1"], "这个选项"),
        (["serve", "a"], "多余的参数"),
        (["send"], "缺少参数"),
        (["send", "127.0.0.1:1", "--timeout"], "需要"),
    ],
)
def test_clicks_own_messages_are_chinese(tieline: Tieline, arguments: list[str], says: str) -> None:
    running = tieline.run("--lang", "zh_CN", *arguments)
    assert running.code == 2
    assert says in running.err


def test_version(tieline: Tieline) -> None:
    from tieline import __version__

    assert tieline.run("--version").out == f"tieline {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(tieline: Tieline, shell: str) -> None:
    running = tieline.run("completion", shell)
    assert running.code == 0
    assert "_TIELINE_COMPLETE" in running.out


def test_completion_of_a_word(tieline: Tieline) -> None:
    running = tieline.run(
        _TIELINE_COMPLETE="bash_complete", COMP_WORDS="tieline serve --per", COMP_CWORD="2"
    )
    assert "plain,--per-client" in running.out


class TestSettings:
    """Flag, then environment, then file, then default."""

    def effective_idle(self, tieline: Tieline, *arguments: str, **environment: str) -> str:
        """What `--idle` turns out to be: a time that makes no sense is named in the error."""
        running = tieline.start("serve", "--port", "0", *arguments, **environment)
        running.finish()
        return running.err

    def test_their_order(self, tieline: Tieline) -> None:
        (tieline.folder / "t.toml").write_text('[serve]\nidle = "file"\n')
        file = ("--config", "t.toml")
        assert "'file'" in self.effective_idle(tieline, *file)
        assert "'env'" in self.effective_idle(tieline, *file, TIELINE_SERVE_IDLE="env")
        both = (*file, "--idle", "flag")
        assert "'flag'" in self.effective_idle(tieline, *both, TIELINE_SERVE_IDLE="env")
        assert "'file'" in self.effective_idle(tieline, TIELINE_SERVE_CONFIG="t.toml")

    def test_values_have_toml_types(self, tieline: Tieline) -> None:
        (tieline.folder / "t.toml").write_text(
            'quiet = false\nlang = "zh_CN"\n[serve]\nlisten = ["127.0.0.1:0", "127.0.0.1:0"]\n'
            'echo = true\nidle = 5\nper-client = "2"\nmax_message = "1KiB"\njson = true\n'
        )
        server = tieline.start("--config", "t.toml", "serve")
        assert len(json.loads(server.line("listening"))["addresses"]) == 2
        server.error_line("正在监听")

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("[serve]\nidel = 5\n", "t.toml:2: there is no setting 'serve.idel' (did you mean"),
            ("[srve]\nidle = 5\n", "t.toml:1: there is no setting 'srve' (did you mean 'serve'?)"),
            ("colour = 'never'\n", "no setting 'colour' (did you mean 'color'?)"),
            ("[serve]\nidle = [[1]]\n", "t.toml:2: the setting 'serve.idle' has a value of the"),
            ("[serve\n", "t.toml:1: this is not TOML"),
            ("[serve]\nper-client = true\n", "t.toml:2: per-client: 'true' is not a count"),
        ],
    )
    def test_mistakes(self, tieline: Tieline, content: str, says: str) -> None:
        (tieline.folder / "t.toml").write_text(content)
        for arguments in (["--config", "t.toml", "serve"], ["serve", "--config", "t.toml"]):
            running = tieline.run(*arguments, "--port", "0")
            assert running.code == 2
            assert says in running.err
            assert running.err.count("\n") == 1

    def test_no_such_file(self, tieline: Tieline) -> None:
        running = tieline.run("serve", "--config", "missing.toml", "--port", "0")
        assert running.code == 2
        assert "the settings file missing.toml cannot be read" in running.err

    def test_an_unknown_variable(self, tieline: Tieline) -> None:
        running = tieline.run("serve", "--port", "0", TIELINE_SERVE_IDEL="5")
        assert running.code == 2
        assert "did you mean 'TIELINE_SERVE_IDLE'?" in running.err
        running = tieline.run("ctl", "clients", TIELINE_CTL_CLIENTS_SROT="5")
        assert running.code == 2
        assert "did you mean 'TIELINE_CTL_CLIENTS_SORT'?" in running.err

    def test_a_variable_with_a_wrong_value(self, tieline: Tieline) -> None:
        running = tieline.run("serve", "--port", "0", TIELINE_SERVE_IDLE="x")
        assert running.code == 2
        assert running.err.startswith("TIELINE_SERVE_IDLE: idle: 'x' is not a duration")


@pytest.mark.parametrize(
    ("choice", "environment", "painted"),
    [
        ("auto", {}, False),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour(tieline: Tieline, choice: str, environment: dict[str, str], painted: bool) -> None:
    running = tieline.start("--color", choice, "send", "nobody.invalid:1", "x", **environment)
    running.finish()
    assert ("\x1b[31m" in running.err) is painted


@pytest.mark.parametrize("command", ["serve", "guard", "connect", "send"])
def test_a_command_imports_only_what_it_needs(tieline: Tieline, command: str) -> None:
    program = (
        "import sys\n"
        "from tieline.cli.app import run\n"
        f"run([{command!r}, '-h'])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=tieline.environment({}), capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    modules = done.stderr.split()
    assert "tieline.cli.app" in modules
    for needless in ("rich", "prompt_toolkit", "tieline.control", "tieline.cli.ctl"):
        assert needless not in modules
