"""What must be translated: every message for people, found in the source.

`python tests/cli/catalogue.py` lists what zh_CN lacks and what it has too many.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from tieline import SettingError
from tieline.guard import spec
from tieline.guard.settings import SETTINGS
from tieline.limits import RULES
from tieline.rules import Rule

SOURCE = Path(__file__).parents[2] / "src" / "tieline"
CATALOGUE = SOURCE / "locale" / "zh_CN" / "LC_MESSAGES" / "tieline.po"

#: Calls whose first argument is a message; of `ngettext`, the second is one too.
_MARKS = {"_", "N_", "gettext", "ngettext"}

#: How the names of variables end that hold templates, or words of ours.
_TELLING = ("template", "templates", "why")

#: Calls of which another argument is one.
_TEXT_AT = {
    "_limit": 2, "_setting": 2, "_seconds": 1, "_connections": 1, "_penalty": 0, "_check_order": 2,
    "deadline": 1,
}  # fmt: skip


def messages(folder: Path = SOURCE) -> dict[str, str]:
    """Every message in the source, and the file that has it."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        for text in _of_tree(ast.parse(path.read_text(encoding="utf-8"))):
            if any(character.isalpha() for character in text):
                found.setdefault(text, path.name)
    for rule in (*RULES.values(), *SETTINGS.values(), *spec.RULES.values()):
        for wrong in (object(), ("?",)):
            found.setdefault(_wanted(rule, wrong), "rules.py")
    return found


def _wanted(rule: Rule, wrong: object) -> str:
    """What a limit must be, as an error says it: put together from the rule."""
    with pytest.raises(SettingError) as caught:
        rule.check("", wrong)
    return str(caught.value.fields["wanted"])


def _of_tree(tree: ast.AST) -> Iterator[str]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    # A template may have a name: one that says so, or one that an error is made with.
    firsts = {
        call.args[0].id
        for call in calls
        if _makes_an_error(call) and call.args and isinstance(call.args[0], ast.Name)
    }
    for call in calls:
        yield from _of_call(call)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if any(name in firsts or name.lower().endswith(_TELLING) for name in names):
                yield from _texts(node.value)


def _makes_an_error(call: ast.Call) -> bool:
    name = _name(call)
    return (name.endswith("Error") and not hasattr(builtins, name)) or name == "_unknown"


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _of_call(call: ast.Call) -> Iterator[str]:
    name = _name(call)
    owner = getattr(call.func, "value", None)
    if name in _MARKS:
        for argument in call.args[: 2 if name == "ngettext" else 1]:
            yield from _texts(argument)
    elif _makes_an_error(call):
        yield from _texts(call.args[0] if call.args else None)
        for keyword in call.keywords:
            if (keyword.arg or "").startswith(("hint", "doing", "or_")):
                yield from _texts(keyword.value)
    elif name in _TEXT_AT:
        yield from _texts(call.args[_TEXT_AT[name]])
    elif name == "get" and getattr(owner, "id", "").endswith("_TEMPLATES"):
        yield from _texts(call.args[1])
    elif (
        name in ("error", "warning", "info") and isinstance(owner, ast.Name) and owner.id == "_log"
    ):
        yield from _texts(call.args[0])


def _texts(node: ast.AST | None) -> Iterator[str]:
    """The texts that a value may be: of a tuple or a table all, of a choice either."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.Tuple):
        for element in node.elts:
            yield from _texts(element)
    elif isinstance(node, ast.Dict):
        for value in node.values:
            yield from _texts(value)


def catalogue() -> Catalog:
    """The Chinese catalogue."""
    with CATALOGUE.open("rb") as file:
        return read_po(file, locale="zh_CN", domain="tieline", abort_invalid=True)


def compile_catalogue() -> None:
    """Compile it for a source tree that was never built."""
    compiled = CATALOGUE.with_suffix(".mo")
    if not compiled.exists() or compiled.stat().st_mtime < CATALOGUE.stat().st_mtime:
        with compiled.open("wb") as file:
            write_mo(file, catalogue())


def main() -> int:
    wanted = messages()
    known, own = set(), set()
    for message in catalogue():
        ids = {message.id} if isinstance(message.id, str) else set(message.id)
        known |= ids
        if "click" not in message.auto_comments:
            own |= ids
    for text in sorted(set(wanted) - known):
        print("missing:", wanted[text], repr(text))
    for text in sorted(own - set(wanted) - {""}):
        print("unused:", repr(text))
    return int(bool(set(wanted) - known))


if __name__ == "__main__":
    sys.exit(main())
