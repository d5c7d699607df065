"""An account of seconds for each client that has misbehaved.

What it is charged adds up, and leaks a second every second. A client that owes more than a
threshold is refused from then on, until it owes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .tables import Table

__all__ = ["Penalties", "Penalty"]

#: When it owes nothing any more, whether it is refused until then, how often it was, and what
#: it was charged for last. A plain tuple, which the garbage collector soon stops looking at.
_Account = tuple[float, bool, int, str]

#: Seconds by which a debt may be above the threshold: sums are rounded.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Penalty:
    """What a client owes.

    Attributes:
        key: whose account it is.
        owed: seconds until it owes nothing.
        refused: whether it is refused until then.
        refusals: attempts refused for it.
        why: what it was charged for last.
    """

    key: str
    owed: float
    refused: bool
    refusals: int
    why: str


class Penalties:
    """The accounts.

    Attributes:
        threshold: seconds; who owes more is refused.
        most: seconds; nobody ever owes more.
        accounts: of everybody who owes anything.
    """

    __slots__ = ("accounts", "most", "threshold")

    def __init__(self) -> None:
        self.accounts: Table[_Account] = Table()
        self.threshold = 0.0
        self.most = 0.0

    def __contains__(self, key: str) -> bool:
        return key in self.accounts

    def charge(self, key: str, seconds: float, why: str, now: float) -> Penalty:
        """Add to a client's account."""
        until, refused, refusals, _ = self._account(key, now) or (now, False, 0, "")
        until = min(max(until, now) + seconds, now + self.most)
        refused = refused or until - now > self.threshold + _ROUNDING
        account = (until, refused, refusals, why)
        if until > now:
            self.accounts.put(key, account)
        return self._as_penalty(key, account, now)

    def refuses(self, key: str, now: float) -> bool:
        """Whether a client is being refused."""
        account = self._account(key, now)
        return account is not None and account[1]

    def count_refusal(self, key: str, now: float) -> None:
        """A client was refused for what it owes."""
        account = self._account(key, now)
        if account is not None:
            until, refused, refusals, why = account
            self.accounts.put(key, (until, refused, refusals + 1, why))

    def forgive(self, key: str, now: float) -> bool:
        """Clear a client's account. Returns whether it owed anything."""
        account = self.accounts.pop(key)
        return account is not None and account[0] > now

    def carry(self, key: str, other: str, now: float) -> None:
        """What `key` owes, `other` owes as well: it is the same machine under another key."""
        account, own = self._account(key, now), self._account(other, now)
        if account is not None:
            more = account if own is None else max(account, own)
            refused = account[1] or (own is not None and own[1])
            self.accounts.put(other, (more[0], refused, *more[2:]))

    def listed(self, now: float) -> Iterator[Penalty]:
        """Everybody's, in no order."""
        for key, account in self.accounts.items():
            settled = self._settled(account, now)
            if settled is not None:
                yield self._as_penalty(key, settled, now)

    def sift(self, part: int, now: float) -> int:
        """Settle the accounts of one part of the table. Returns how many are gone."""

        def keep(accounts: dict[str, _Account]) -> dict[str, _Account]:
            settled = ((key, self._settled(account, now)) for key, account in accounts.items())
            return {key: account for key, account in settled if account is not None}

        return self.accounts.sift(part, keep)

    def _account(self, key: str, now: float) -> _Account | None:
        """A client's account, as it stands now."""
        account = self.accounts.get(key)
        if account is None:
            return None
        settled = self._settled(account, now)
        if settled is None:
            self.accounts.pop(key)
        elif settled is not account:
            self.accounts.put(key, settled)
        return settled

    def _settled(self, account: _Account, now: float) -> _Account | None:
        """An account under the limits as they are now, which may have changed since."""
        until, refused, refusals, why = account
        if until <= now:
            return None
        is_over = not refused and until - now > self.threshold + _ROUNDING
        if is_over or until > now + self.most:
            return (min(until, now + self.most), refused or is_over, refusals, why)
        return account

    def _as_penalty(self, key: str, account: _Account, now: float) -> Penalty:
        until, refused, refusals, why = account
        return Penalty(key, min(until - now, self.most), refused, refusals, why)
