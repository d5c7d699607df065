"""Who may come in: decisions, given the counts. No sockets, no event loop, the clock is given.

One object owns the counts; whoever accepts asks it, and tells it when a connection has ended.
`Admission` is what it must be able to do, `LocalAdmission` does it for one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from ..limits import Limits
from ..reasons import CloseReason
from .bans import Ban
from .clients import Client
from .local import LocalAdmission
from .penalties import Penalty

__all__ = ["Admission", "Ban", "Client", "LocalAdmission", "Penalty"]


class Admission(Protocol):
    """The owner of the counts.

    Attributes:
        total: connections held now, by all clients.
        overflowed: newcomers that found the table of clients full, so far.
        on_spared: called with the reason and the client's key whenever a limit on trial
            (`Limits.dry_run`) would have refused.
        on_overflow: called for each newcomer that found the table full.
        on_penalized: called with each charge to an account: what the client owes now, and the
            seconds that were charged.
    """

    total: int
    overflowed: int
    on_spared: Callable[[CloseReason, str], object] | None
    on_overflow: Callable[[], object] | None
    on_penalized: Callable[[Penalty, float], object] | None

    @property
    def limits(self) -> Limits:
        """What counts at present."""

    @property
    def full(self) -> bool:
        """Whether the total cap is reached: accepting waits, the kernel's backlog queues."""

    @property
    def known(self) -> int:
        """Clients that are remembered: those that hold a connection, and those with a debt."""

    @property
    def clients(self) -> Mapping[str, Client]:
        """Every client that holds a connection now, by key. Not to be changed."""

    def client(self, key: str) -> Client | None:
        """The client of this key, if it holds a connection."""

    def key_of(self, host: str, scope: int = 0, uid: int | None = None) -> str:
        """The key under which a newcomer is counted. Arguments as for `admit`."""

    def admit(self, host: str, scope: int = 0, uid: int | None = None) -> Client | CloseReason:
        """Let a client in, or say why not.

        Args:
            host: its IP address, or an empty string for a Unix peer.
            scope: IPv6 scope id.
            uid: the user of a Unix peer.

        Returns:
            The client, counted: `release` it exactly once. Or the reason for refusing it.

        A refused attempt takes no place and no token of any rate. It counts in the client's
        `refused`, and costs it `Limits.penalty_refused`, unless the client is banned or refused
        for what it owes, or the server is what is full. Neither happens for CLIENT_LIMIT where
        `Limits.client_full` is "evict": there it asks the caller to make room; see
        `count_refusal`.
        """

    def count_refusal(self, client: Client, reason: CloseReason) -> None:
        """A client that holds connections was refused after all, as there was no room to make."""

    def release(self, client: Client) -> None:
        """A connection of this client has ended."""

    def delay(self) -> float:
        """Seconds until the rate of all clients lets the next one in; 0.0: now.

        `admit` does not refuse for this rate: whoever accepts pauses.
        """

    def penalize(self, client: Client | str, seconds: float, why: str) -> Penalty | None:
        """Charge a client's account. It need not hold a connection.

        Args:
            client: itself, its key, or an address.
            seconds: by how much; 0 or more.
            why: what for, in a word.

        Returns:
            What it owes now. `None`: it is exempt, or there is no room to remember it.

        Raises:
            SettingError: `seconds` is not a number of 0 or more.
        """

    def forgive(self, key: str) -> bool:
        """Clear the account of a client, given by key or address. Whether it owed anything."""

    def penalties(self) -> Iterator[Penalty]:
        """Everybody who owes anything, in no order. Others may be charged meanwhile."""

    def ban(self, network: str, seconds: float | None = None, why: str = "") -> Ban:
        """Refuse all of a network from now on, those that are exempt as well.

        Args:
            network: `10.0.0.7`, `10.0.0.0/24`, `2001:db8::/64`, `uid:1000`, or a client's key.
            seconds: for how long; `None` (default): until `unban`.
            why: what for, in a sentence.

        Raises:
            SettingError: an argument is none of these; nothing is banned.

        Bans may overlap. A second one of the same network takes the place of the first.
        """

    def unban(self, network: str) -> bool:
        """Lift the ban of exactly this network. Returns whether there was one.

        Raises:
            SettingError: it is nothing that could be banned.
        """

    def bans(self) -> Iterator[Ban]:
        """The bans that last."""

    def is_banned(self, client: Client | str, scope: int = 0, uid: int | None = None) -> bool:
        """Whether a client is banned, or an address.

        Args:
            client: a client, for whether all of its addresses are banned; or, as for `admit`,
                the address of one connection, with its scope, or an empty string with its user.
        """

    def change_limits(self, limits: Limits) -> bool:
        """Decide by other limits from now on. What is in stays in; penalties and bans stay.

        Returns:
            Whether clients have other keys now: then `move` every connection. Prefixes or
            exempt networks have changed. What clients that hold no connection owe follows them,
            except where one is now several.

        Raises:
            SettingError: a network in them makes no sense; nothing has changed.
        """

    def move(self, client: Client, host: str, scope: int = 0, uid: int | None = None) -> Client:
        """Count one connection under the key that it has now, with what its client owes.

        Args:
            client: under which it was counted.
            host, scope, uid: its peer, as for `admit`.

        Returns:
            The client to `release`; the same where nothing has changed. Nobody is refused.
        """

    def clean(self, now: float | None = None) -> int:
        """Forget some of what is not needed any more; call it about once a second.

        Args:
            now: the time on the admission's clock (default: ask it).

        Returns:
            How many entries are gone. A share of a large table is looked at, in a few
            milliseconds, the next one with the next call.
        """
