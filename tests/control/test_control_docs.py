"""What docs/control.md says of the protocol is so: every exchange it shows, every table."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import tieline
import tieline.guard
from control.controlled import Wire
from support.hooks import echo
from support.peers import Peer
from tieline import Line
from tieline.control import protocol, serve
from tieline.control.session import Verb
from tieline.control.verbs import VERBS
from tieline.listening import Listening

DOCUMENT = Path(__file__).parents[2] / "docs" / "control.md"
TEXT = DOCUMENT.read_text("utf-8")
EXCHANGES = re.findall(r"^```jsonl\n(.*?)^```$", TEXT, re.M | re.S)

#: The number of the connection in the examples.
NUMBER = 12


def _section(verb: str) -> str:
    found = re.search(rf"^### `{verb}`\n(.*?)(?=^##)", TEXT, re.M | re.S)
    assert found is not None, verb
    return found[1]


def _rows(section: str, head: str) -> list[list[str]]:
    found = re.search(rf"^\| {head} \|.*\n\|.*\n((?:\|.*\|\n)*)", section, re.M)
    lines = [] if found is None else found[1].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def _alike(said: Any, got: Any, where: str) -> None:
    """The same keys and kinds of values. `…` stands for more of the kind."""
    if isinstance(said, dict):
        assert isinstance(got, dict), where
        if "…" not in said:
            assert list(said) == list(got), where
        for key in said.keys() - {"…"}:
            _alike(said[key], got[key], f"{where}.{key}")
    elif isinstance(said, list):
        assert isinstance(got, list), where
        assert bool(said) == bool(got), where
        for each in said[:1]:
            _alike(each, got[0], f"{where}[0]")
    elif isinstance(said, float):
        assert isinstance(got, (int, float)), where
    else:
        assert type(said) is type(got), (where, got)


def _kind(reply: dict[str, Any]) -> Any:
    return reply.get("event", {}).get("event")


def _verb(exchange: str) -> Verb:
    """The verb that it shows."""
    return VERBS[exchange.split('"verb": "')[1].split('"')[0]]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda text: _verb(text).name)
async def test_every_exchange_goes_as_it_is_shown(exchange: str, path: Path) -> None:
    async with AsyncExitStack() as stack:
        server: Listening = await stack.enter_async_context(
            tieline.serve(echo("conversation"), "127.0.0.1:0", framing=Line())
        )
        if '"db1"' in exchange or _verb(exchange).guard:
            upstream = f"{server.addresses[0]},name=db1"
            server = await stack.enter_async_context(
                tieline.guard.serve("127.0.0.1:0", upstreams=[upstream])
            )
        control = serve(server, path)
        control._operations.statistics._seconds = 0.0
        async with control, await Peer.connect(server.addresses[0]) as peer:
            await peer.send(b"hello\n")
            await peer.receive_line()
            [connection] = server.connections
            async with await Wire.connect(path) as wire:
                await wire.hear()
                for line in exchange.splitlines():
                    arrow, _, text = line.partition(" ")
                    fields = json.loads(text)
                    if arrow == "→":
                        arguments = fields.get("args", {})
                        if arguments.get("id") == NUMBER:
                            arguments["id"] = connection.id
                        await wire.say(fields)
                        if fields["verb"] == "drain":
                            peer.close()
                        continue
                    assert arrow == "←"
                    got = await wire.hear()
                    # Statistics come when they come.
                    while _kind(got) == "stats" != _kind(fields):
                        got = await wire.hear()
                    assert (got["v"], got["id"]) == (fields["v"], fields["id"])
                    _alike(fields, got, "answer")
                    if got.get("result", {}).get("peer"):
                        await peer.send(b"hello\n")


def test_every_verb_has_its_section_with_all_of_its_arguments() -> None:
    headings = re.findall(r"^### `(\w+)`$", TEXT, re.M)
    assert sorted(headings) == sorted(VERBS)
    for verb in VERBS.values():
        section = _section(verb.name)
        assert f'"verb": "{verb.name}"' in section
        shown = {row[0].strip("`"): row[1].strip("`") for row in _rows(section, "argument")}
        expected = {}
        for argument in verb.arguments:
            default = "" if argument.default is None else json.dumps(argument.default)
            if isinstance(argument.default, str) and argument.default:
                default = argument.default
            expected[argument.name] = "required" if argument.required else default
        assert shown == expected, verb.name


def test_every_key_of_a_row_is_explained() -> None:
    rows = _rows(_section("connections"), "key of a row")
    explained = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows))
    assert sorted(explained) == sorted(
        protocol.decode(_answer("connections"))["result"]["connections"][0]
    )


def test_every_key_of_an_upstream_is_explained() -> None:
    rows = _rows(_section("upstreams"), "key of an upstream")
    explained = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows))
    assert explained == list(protocol.decode(_answer("upstreams"))["result"]["upstreams"][0])


def _answer(verb: str) -> bytes:
    found = re.search(r"^← (.*)$", _section(verb), re.M)
    assert found is not None
    return found[1].encode()


def test_every_code_of_an_error_is_in_the_table() -> None:
    listed = {row[0].strip("`") for row in _rows(TEXT, "code")}
    source = Path(protocol.__file__).parent
    used = {
        code
        for file in source.glob("*.py")
        for code in re.findall(r'code="(\w+)"|code: str = "(\w+)"', file.read_text("utf-8"))
        for code in code
        if code
    }
    assert listed == used | {"failed"}
    assert (
        set(re.findall(r"`(\w+)`", (protocol.ControlError.__doc__ or "").partition("fields:")[0]))
        == listed
    )
