"""Messages in the user's language: gettext, domain `tieline`. English is the source.

Nothing is translated when a module is imported, since the language is known only later:
`N_` marks a string for the catalogue, `gettext` looks it up at the moment it is shown.
"""

from __future__ import annotations

import gettext as catalogues
import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import TielineError
from .visible import visible

__all__ = [
    "LANGUAGES",
    "N_",
    "gettext",
    "hint_of",
    "ngettext",
    "sentence",
    "use_language",
    "with_hint",
]

#: The languages there are, as `--lang` takes them.
LANGUAGES = ("en", "zh_CN")

_DOMAIN = "tieline"
_CATALOGUES = str(Path(__file__).parent.parent / "locale")

#: Where the language is looked for, first come first served, as gettext does.
_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")

#: The fields of errors whose values are words of ours, and not of the user or the peer.
_WORDS = ("doing", "or_", "wanted", "why")

_current: catalogues.NullTranslations = catalogues.NullTranslations()


def known_language(wanted: str) -> str | None:
    """The language of ours that serves who asks for `wanted` (`zh`, `zh_CN.UTF-8`...)."""
    name = re.split(r"[.@]", wanted.replace("-", "_"))[0].lower()
    if name in ("zh", "zh_cn", "zh_sg", "zh_hans") or name.startswith("zh_hans_"):
        return "zh_CN"
    if name.partition("_")[0] in ("en", "c", "posix"):
        return "en"
    return None


def language_of(environment: Mapping[str, str]) -> str:
    """The language that an environment asks for; English where it asks for none we know."""
    for variable in _VARIABLES:
        value = environment.get(variable)
        if not value:
            continue
        # Only LANGUAGE is a list of wishes; the others name one locale.
        wishes = value.split(":") if variable == "LANGUAGE" else [value]
        for wish in wishes:
            language = known_language(wish)
            if language is not None:
                return language
        if variable != "LANGUAGE":
            return "en"
    return "en"


def use_language(wanted: str | None = None) -> None:
    """Speak this language from now on; without one, that of the environment."""
    global _current
    language = known_language(wanted) if wanted else None
    language = language or language_of(os.environ)
    _current = catalogues.translation(_DOMAIN, _CATALOGUES, [language], fallback=True)
    # Click asks gettext's own functions, which go by the environment and a current domain: so
    # its built-in messages come from our catalogue too.
    os.environ["LANGUAGE"] = language
    catalogues.bindtextdomain(_DOMAIN, _CATALOGUES)
    catalogues.textdomain(_DOMAIN)


def N_(message: str) -> str:
    """Mark a message for the catalogue, and leave it as it is."""
    return message


def gettext(message: str) -> str:
    """The message in the current language."""
    # The catalogue keeps its header under the empty message.
    return _current.gettext(message) if message else ""


def ngettext(singular: str, plural: str, count: int) -> str:
    """The message in the current language, in the form that `count` takes."""
    return _current.ngettext(singular, plural, count)


def sentence(error: BaseException) -> str:
    """An error as one line for people, safe to show."""
    if not isinstance(error, TielineError):
        return visible(str(error) or type(error).__name__)
    fields = {
        name: gettext(value) if name.startswith(_WORDS) and isinstance(value, str) else value
        for name, value in error.fields.items()
    }
    return visible(gettext(error.template).format(**fields))


def hint_of(error: BaseException) -> str:
    """What to do about an error, in the current language; empty where nothing is known."""
    if not isinstance(error, TielineError):
        return ""
    hint = gettext(error.hint)
    return visible(hint.format(**error.fields) if "{" in hint else hint)


def with_hint(text: str, hint: str) -> str:
    """A sentence and, in brackets, what to do about it."""
    return gettext("{text} ({hint})").format(text=text, hint=hint) if hint else text
