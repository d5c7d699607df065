"""Compiles the translations when the package is built or installed, editable installs included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TranslationsHook(BuildHookInterface[Any]):
    """Puts a `.mo` beside every `.po`; only the `.po` is kept in the repository."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        for source in sorted(Path(self.root, "src/tieline/locale").rglob("*.po")):
            compiled = source.with_suffix(".mo")
            with source.open("rb") as text:
                catalogue = read_po(text, abort_invalid=True)
            with compiled.open("wb") as binary:
                write_mo(binary, catalogue)
            build_data["artifacts"].append(str(compiled.relative_to(self.root)))
