#!/usr/bin/env python3
"""Draws the charts of a saved comparison as pictures of their own, in both languages.

tieline bench ADDRESS --compare --save docs/pictures/bench.json
python docs/pictures/bench.py            # write bench-*.svg beside this file
python docs/pictures/bench.py --check    # fail if they are not what would be written
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tieline.bench import Comparison
from tieline.cli.bench.charts_runs import runs_of
from tieline.cli.bench.charts_spread import histogram, times_compared
from tieline.cli.bench.page import on_its_own
from tieline.cli.translation import use_language

__all__ = ["draw"]

HERE = Path(__file__).parent

#: What is drawn, by the end of its file's name.
CHARTS: dict[str, Callable[[Comparison], str]] = {
    "spread": lambda comparison: histogram(runs_of(comparison)),
    "times": lambda comparison: times_compared(runs_of(comparison)),
}

#: The ends of their files' names, by language.
LANGUAGES = {"en": "", "zh_CN": ".zh-CN"}


def draw(comparison: Comparison) -> dict[Path, str]:
    """Every picture, by its file."""
    drawn: dict[Path, str] = {}
    for language, end in LANGUAGES.items():
        use_language(language)
        for name, chart in CHARTS.items():
            drawn[HERE / f"bench-{name}{end}.svg"] = on_its_own(chart(comparison)) + "\n"
    use_language("en")
    return drawn


def main() -> int:
    saved = json.loads((HERE / "bench.json").read_text("utf-8"))
    drawn = draw(Comparison.from_json(saved))
    if "--check" in sys.argv[1:]:
        old = [
            str(file)
            for file, text in drawn.items()
            if not file.exists() or file.read_text("utf-8") != text
        ]
        for path in old:
            print(path)
        return int(bool(old))
    for file, text in drawn.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
