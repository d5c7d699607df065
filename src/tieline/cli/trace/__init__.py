"""`tieline trace`: make one connection, or watch one, and draw what passes as a ladder.

`command` has the flags and `doing` what is done with them. `wording` says what steps mean and
`rows` what a picture of them has in it; `ladder` draws it in a terminal and `svg` as a file;
`records` tells it to programs.
"""

from .command import command

__all__ = ["command"]
