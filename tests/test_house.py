"""The house rules of the source: what may import what, what is public, how long a module is."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tieline

SOURCE = Path(tieline.__file__).parent

#: Arrows point downward only: a module imports from its own layer's lower ones or from below.
#: A package stands for all of its modules.
LAYERS = [
    {"_version"},
    {"reasons"},
    {"errors"},
    {"address", "rules", "doctor"},
    {"limits"},
    {
        "framing", "charset", "speaker", "states", "deadlines", "counters", "tcp_info", "drain",
        "sweep", "events", "proxy_protocol",
    },
    {"admission", "clocks", "eviction", "waiter", "tls", "tap"},
    {"reactor"},
    {"resolve"},
    {"endpoint", "listener"},
    {"ending", "acceptor"},
    {"expiring", "conversation"},
    {"stream"},
    {"connection"},
    {"responder"},
    {"client", "hosting"},
    {"operating"},
    {"listening"},
    {"server"},
    {"blocking", "guard"},
    {"run", "event_log", "metrics", "systemd", "bench", "trace"},
    {"testing"},
    {"__init__"},
    {"control"},
    {"cli"},
    {"__main__"},
]  # fmt: skip

#: Within a layer, the arrows that there are.
BESIDE = {("charset", "framing"), ("charset", "speaker"), ("speaker", "framing")}

FILES = sorted(SOURCE.rglob("*.py"))


def _name(file: Path) -> str:
    """`server` for server.py, `framing.text` for framing/text.py."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts) if len(parts) == 1 else ".".join(parts).removesuffix(".__init__")


def _layer(module: str) -> int:
    top = module.partition(".")[0]
    for number, layer in enumerate(LAYERS):
        if top in layer:
            return number
    raise AssertionError(f"{module} has no place in the layers: give it one")


def _imports(file: Path) -> list[tuple[str, list[str], bool]]:
    """What a file imports from tieline: the module's name, the names, whether for typing only."""
    package = ["tieline", *file.relative_to(SOURCE).parts[:-1]]
    tree = ast.parse(file.read_text("utf-8"))
    for_typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found: list[tuple[str, list[str], bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "tieline":
                    module = alias.name.partition(".")[2]
                    found.append((module or "__init__", [], id(node) in for_typing))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                full = ".".join([*base, *([node.module] if node.module else [])])
            else:
                full = node.module or ""
            if full.partition(".")[0] != "tieline":
                continue
            module = full.partition(".")[2]
            names = [alias.name for alias in node.names]
            for name in names:
                inner = ".".join(filter(None, [module, name]))
                if (SOURCE / inner.replace(".", "/")).with_suffix(".py").exists() or (
                    SOURCE / inner.replace(".", "/")
                ).is_dir():
                    found.append((inner, [], id(node) in for_typing))
                else:
                    found.append((module or "__init__", [name], id(node) in for_typing))
    return found


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_arrows_point_downward_only(file: Path) -> None:
    own = _name(file).partition(".")[0]
    for module, _, for_typing in _imports(file):
        other = module.partition(".")[0]
        if other == own or for_typing:
            continue
        below = _layer(other) < _layer(own)
        assert below or (own, other) in BESIDE, f"{_name(file)} imports {module}, which is above"


def test_every_module_has_a_place_and_every_place_a_module() -> None:
    modules = {_name(file).partition(".")[0] for file in FILES}
    assert modules == set().union(*LAYERS)


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_no_module_imports_what_another_keeps_to_itself(file: Path) -> None:
    for module, names, _ in _imports(file):
        for name in names:
            private = name.startswith("_") and not name.startswith("__")
            assert not private, f"{_name(file)} imports {name} of {module}"


@pytest.mark.parametrize("file", FILES, ids=_name)
def test_no_module_is_long(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) < 600


def _modules() -> list[ModuleType]:
    found = [tieline]
    for information in pkgutil.walk_packages(tieline.__path__, "tieline."):
        if information.name != "tieline.__main__":
            found.append(importlib.import_module(information.name))
    return found


def _defined(module: ModuleType) -> set[str]:
    """The public names that a module makes itself, at its top level."""
    assert module.__file__ is not None
    names: set[str] = set()
    for node in ast.parse(Path(module.__file__).read_text("utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", _modules(), ids=lambda module: module.__name__)
def test_what_a_module_says_is_public_exists_and_nothing_is_said_twice(
    module: ModuleType,
) -> None:
    public = getattr(module, "__all__", None)
    if public is None:
        assert module.__name__.startswith("tieline.cli") or _defined(module) == set()
        return
    assert len(public) == len(set(public))
    for name in public:
        assert hasattr(module, name), f"{module.__name__}.{name} does not exist"


def test_what_the_package_offers_is_what_it_says_it_offers() -> None:
    offered = {
        name
        for name, value in vars(tieline).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    said = set(tieline.__all__) - {"__version__", "blocking", "events"}
    assert offered == said


def test_importing_the_library_imports_the_standard_library_only() -> None:
    """No third party, no command line: in a Python that has no other packages."""
    program = (
        f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r})\n"
        "before = set(sys.modules)\n"
        "import tieline\n"
        "print(*(set(sys.modules) - before))\n"
    )
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    modules = set(run.stdout.split())
    packages = {name.partition(".")[0] for name in modules}
    assert packages - sys.stdlib_module_names == {"tieline"}
    assert "tieline.cli" not in modules


def test_nothing_says_where_it_was_made() -> None:
    """No path of a machine, in source or tests."""
    here = Path(__file__)
    for file in [*FILES, *here.parent.rglob("*.py")]:
        text = file.read_text("utf-8")
        assert "/wor" + "k/" not in text, file
        assert "/ho" + "me/" not in text, file


def test_every_reason_for_an_end_is_reached_by_a_test() -> None:
    here = Path(__file__).parent
    folders = [here / "conformance", here / "guard"]
    tests = [*(file for each in folders for file in each.glob("*.py")), here / "test_faults.py"]
    text = "".join(file.read_text("utf-8") for file in tests)
    assert [
        reason for reason in tieline.CloseReason if f"CloseReason.{reason.name}" not in text
    ] == []
