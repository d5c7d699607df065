"""The counts, and what is remembered of clients that have gone: kept, and forgotten in time."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from ..address import UNKNOWN_CLIENT
from ..limits import Limits
from .bans import Bans
from .clients import Client
from .penalties import Penalties
from .tables import PARTS, Table
from .terms import Terms

__all__ = ["Counting"]

#: More connections than there can be.
_NO_LIMIT = sys.maxsize

#: Entries that are enough to look at in one go of cleaning.
_ENOUGH_CLEANED = 4_096

#: Accounts that are carried to other keys in one go.
_MOST_RENAMED = 1_000

#: Seconds between two cleanings because the table is full: a flood of newcomers that find it so
#: must not have it searched for each of them.
_CLEANING_PAUSE = 0.1


class Counting:
    """Who holds how many connections, and who owes what. Decides nothing.

    Args:
        limits: what is allowed.
        clock: seconds from any beginning.

    Raises:
        SettingError: a network in `limits` makes no sense.

    Attributes:
        total: connections held now, by all clients.
    """

    # _debts holds the clients that are remembered though they hold no connection, with the time
    # at which their bucket is full. Whoever has an account of penalties is there, or in _clients.
    __slots__ = (
        "_bans", "_careful", "_clean_next_at", "_client_rate", "_clients", "_clock", "_crowded_at",
        "_debts", "_direct", "_has_groups", "_key", "_limits", "_most", "_networks", "_next_part",
        "_penalties", "_places", "_renaming", "_spared", "_terms", "_total_rate", "total",
    )  # fmt: skip

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.total = 0
        self._clock = clock
        self._clients: dict[str, Client] = {}
        self._networks: dict[str, Client] = {}
        self._debts: Table[float] = Table()
        self._penalties = Penalties()
        self._bans = Bans()
        self._next_part = 0
        # Keys of accounts that may have to be carried to others.
        self._renaming: Iterator[tuple[str, object]] = iter(())
        self._clean_next_at = -math.inf
        self._use(limits, Terms(limits))

    def _use(self, limits: Limits, terms: Terms) -> None:
        self._limits = limits
        self._terms = terms
        # Kept at hand, since every newcomer is held against them.
        self._key = terms.address_key
        self._client_rate = terms.client_rate
        self._total_rate = terms.total_rate
        self._most = _NO_LIMIT if limits.per_client is None else limits.per_client
        self._places = _NO_LIMIT if limits.total is None else limits.total - limits.reserved
        # There are at most as many clients as connections.
        self._crowded_at = min(self._places, limits.table_size)
        self._has_groups = terms.has_groups
        self._spared = terms.spared
        self._penalties.threshold = limits.penalty_threshold
        self._penalties.most = limits.penalty_most
        # Where addresses may be keys as they are. One that is in here needs no key made for it.
        self._direct = self._clients if limits.client_ipv4_prefix == 32 else {}
        self._careful = self._is_careful()

    def _is_careful(self) -> bool:
        """Whether there is more to a decision than how many connections there are."""
        return bool(
            self._has_groups
            or self._client_rate is not None
            or self._total_rate is not None
            or self._penalties.accounts.count
            or self._debts.count
            or self._bans.entries
        )

    @property
    def limits(self) -> Limits:
        """What counts at present."""
        return self._limits

    @property
    def full(self) -> bool:
        """Whether the total cap is reached: accepting waits, the kernel's backlog queues."""
        return self._limits.total is not None and self.total >= self._limits.total

    @property
    def known(self) -> int:
        """Clients that are remembered: those that hold a connection, and those with a debt."""
        return len(self._clients) + self._debts.count

    @property
    def clients(self) -> Mapping[str, Client]:
        """Every client that holds a connection now, by key. Not to be changed."""
        return self._clients

    def client(self, key: str) -> Client | None:
        """The client of this key, if it holds a connection."""
        return self._clients.get(key)

    def key_of(self, host: str, scope: int = 0, uid: int | None = None) -> str:
        """The key under which a newcomer is counted."""
        return self._terms.key(host, scope, uid)

    # ---- Coming and going

    def _introduce(self, client: Client) -> Client:
        """Say of a newcomer what is known of it. It is not among the clients yet."""
        if self._debts.count:
            client.full_at = self._debts.get(client.key) or 0.0
        if self._has_groups:
            client.exempt = self._terms.is_exempt_client(client)
            key = self._terms.network_key(client)
            if key is not None:
                client.network = self._networks.get(key) or Client(key, client.host)
        return client

    def _count(self, client: Client) -> None:
        """A connection of this client is in."""
        network = client.network
        if network is not None:
            if not network.connections:
                self._networks[network.key] = network
            network.connections += 1
        if not client.connections and client.listed:
            self._clients[client.key] = client
            if self._debts.count:
                self._debts.pop(client.key)
        client.connections += 1
        self.total += 1

    def release(self, client: Client) -> None:
        """A connection of this client has ended."""
        self.total -= 1
        client.connections -= 1
        network = client.network
        if network is not None:
            network.connections -= 1
            if not network.connections:
                del self._networks[network.key]
        if not client.connections and client.listed:
            del self._clients[client.key]
            if self._careful:
                self._remember(client)

    # ---- What is remembered

    def _remember(self, client: Client) -> None:
        """It has gone; what it owes stays."""
        full_at = 0.0 if self._client_rate is None else client.full_at
        if (full_at and full_at > self._clock()) or client.key in self._penalties:
            self._debts.put(client.key, full_at)

    def _keep(self, key: str) -> None:
        """Whoever has an account is remembered."""
        if key in self._penalties and key not in self._clients and key not in self._debts:
            self._debts.put(key, 0.0)

    def _has_place(self, key: str) -> bool:
        """Whether a client can be remembered as things are."""
        return (
            self.known < self._limits.table_size
            or key in self._clients
            or key in self._debts
            or key == UNKNOWN_CLIENT
        )

    def _clean_now(self) -> bool:
        """Look for something to forget. Whether there is room now."""
        now = self._clock()
        if now >= self._clean_next_at:
            self._clean_next_at = now + _CLEANING_PAUSE
            self.clean(now)
        return self.known < self._limits.table_size

    # ---- Under other limits

    def _exempt_anew(self) -> None:
        """Say of every client whether it is exempt."""
        for client in self._clients.values():
            is_exempt = self._terms.is_exempt_client(client)
            if is_exempt != client.exempt:
                client.exempt = is_exempt
                self._regroup(client)

    def _regroup(self, client: Client) -> None:
        """Count what a client holds in the network to which it belongs now."""
        key = self._terms.network_key(client)
        old = client.network
        if old is not None:
            old.connections -= client.connections
            if not old.connections:
                del self._networks[old.key]
        if key is None:
            client.network = None
            return
        network = self._networks.get(key)
        if network is None:
            network = self._networks[key] = Client(key, client.host)
        network.connections += client.connections
        client.network = network

    def _rename(self, now: float) -> None:
        """Carry some of what is owed to the keys that clients have now, if they have others."""
        for key, _ in islice(self._renaming, _MOST_RENAMED):
            wider = self._terms.wider_key(key)
            if wider != key:
                self._penalties.carry(key, wider, now)
                self._penalties.forgive(key, now)
                self._keep(wider)

    # ---- Forgetting

    def clean(self, now: float | None = None) -> int:
        """Forget some of what is not needed any more. Returns how many entries are gone."""
        if now is None:
            now = self._clock()
        self._rename(now)
        gone = self._bans.sweep(now)
        looked_at = 0
        for _ in range(PARTS):
            part = self._next_part
            self._next_part = (part + 1) % PARTS
            looked_at += len(self._debts.part(part)) + len(self._penalties.accounts.part(part))
            gone += self._penalties.sift(part, now)
            gone += self._sift_debts(part, now)
            if looked_at >= _ENOUGH_CLEANED:
                break
        self._careful = self._is_careful()
        return gone

    def _sift_debts(self, part: int, now: float) -> int:
        rate = self._client_rate
        owing = self._penalties.accounts.part(part)
        most = 0.0 if rate is None else now + rate.whole

        def keep(debts: dict[str, float]) -> dict[str, float]:
            return {
                key: full_at if full_at < most else most
                for key, full_at in debts.items()
                if (full_at > now and most) or key in owing
            }

        return self._debts.sift(part, keep)
