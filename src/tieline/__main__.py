"""`tieline` and `python -m tieline`: see `tieline.cli`."""

from __future__ import annotations

import sys

from .cli.translation import gettext as _
from .cli.translation import use_language

__all__ = ["main"]

#: What the `cli` extra installs, by import name.
_EXTRA = frozenset({"click", "prompt_toolkit", "rich", "wcwidth"})


def main() -> None:
    """Run the command and exit with its code."""
    use_language()
    try:
        from .cli.app import run

        code = run(sys.argv[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        text = _("the command needs {module}: pip install 'tieline[cli]'")
        print("tieline:", text.format(module=error.name), file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
