"""Admission for one process: the counts are here, and nobody else has any."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..address import UNKNOWN_CLIENT
from ..errors import SettingError
from ..limits import Limits
from ..reasons import CloseReason
from .bans import Ban
from .clients import Client, UnlistedClient
from .counting import Counting
from .keys import user_key
from .networks import Network, network_of_key, parse_network
from .penalties import Penalty
from .rates import Rate
from .terms import Terms

__all__ = ["LocalAdmission"]

#: Refusals that no client is charged for: the operator's decision, the server is full, or it is
#: paying already, which would never end for one that keeps trying.
_NOT_CHARGED = frozenset({CloseReason.BANNED, CloseReason.TOTAL_LIMIT, CloseReason.PENALIZED})

#: Limits that decide under which key a client is counted, and in which network.
_KEY_LIMITS = ("client_ipv4_prefix", "client_ipv6_prefix", "exempt_networks")
_NETWORK_LIMITS = ("network_ipv4_prefix", "network_ipv6_prefix")

#: Limits that bear on what is remembered.
_RATE_LIMITS = ("per_client_rate", "per_client_burst")
_PENALTY_LIMITS = ("penalty_threshold", "penalty_most")


class LocalAdmission(Counting):
    """Counts connections, in all and per client, and says no. See `Admission`.

    Args:
        limits: what is allowed.
        clock: seconds from any beginning (default `time.monotonic`).
        on_spared: called with the reason and the client's key whenever a limit on trial would
            have refused.
        on_overflow: called for each newcomer that found the table of clients full.
        on_penalized: called with each charge: what the client owes now, and the seconds charged.

    Raises:
        SettingError: a network in `limits` makes no sense.

    A decision costs the same for ten clients as for a million. What is remembered of a client:
    `Client` while it holds connections; the time at which its rate's bucket is full again, and
    its account of penalties, as long as they matter.
    """

    __slots__ = ("_total_full_at", "on_overflow", "on_penalized", "on_spared", "overflowed")

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_spared: Callable[[CloseReason, str], object] | None = None,
        on_overflow: Callable[[], object] | None = None,
        on_penalized: Callable[[Penalty, float], object] | None = None,
    ) -> None:
        super().__init__(limits, clock)
        self.on_spared = on_spared
        self.on_overflow = on_overflow
        self.on_penalized = on_penalized
        self.overflowed = 0
        self._total_full_at = 0.0

    # ---- Coming and going

    def admit(self, host: str, scope: int = 0, uid: int | None = None) -> Client | CloseReason:
        """Let a client in, or say why not."""
        client = self._direct.get(host)
        if client is None or client.host != host:
            key = self._key(host, scope) if host else user_key(uid)
            client = self._clients.get(key) or Client(key, host)
        if self._careful or self.total >= self._crowded_at:
            return self._admit_carefully(client, host)
        most = self._most
        if client.connections >= most and self._says_no(client, CloseReason.CLIENT_LIMIT):
            return CloseReason.CLIENT_LIMIT
        # As `_count` does where nothing is counted but a client's connections.
        if not client.connections:
            self._clients[client.key] = client
        client.connections += 1
        self.total += 1
        return client

    def _admit_carefully(self, client: Client, host: str) -> Client | CloseReason:
        """The same where more than one limit is in use, or there is little room left.

        Args:
            client: by its address; if it holds no connection, it may be somebody new.
            host: its address.
        """
        if self._bans.entries and self._bans.refuses(client.key, host, self._clock()):
            self.count_refusal(client, CloseReason.BANNED)
            return CloseReason.BANNED
        if not client.connections:
            self._introduce(client)
            if self.known >= self._limits.table_size and not self._has_place(client.key):
                found = self._find_room(client)
                if found is None:
                    return CloseReason.TABLE_FULL
                client = found
        if not client.exempt:
            reason = self._refusal(client)
            if reason is not None:
                return reason
        if self.total >= self._places and self._is_taken(host):
            self.count_refusal(client, CloseReason.TOTAL_LIMIT)
            return CloseReason.TOTAL_LIMIT
        self._take_tokens(client)
        self._count(client)
        return client

    def _find_room(self, client: Client) -> Client | None:
        """The table is full: as whom a newcomer is counted. `None`: it is refused."""
        if self._clean_now():
            return client
        self._overflowed()
        mode = self._limits.table_full
        if client.exempt or mode == "admit":
            return UnlistedClient(client.key, client.host)
        if mode == "refuse":
            return None
        shared = self._clients.get(UNKNOWN_CLIENT)
        return self._introduce(Client(UNKNOWN_CLIENT)) if shared is None else shared

    def _overflowed(self) -> None:
        self.overflowed += 1
        if self.on_overflow is not None:
            self.on_overflow()

    # ---- Saying no

    def _is_taken(self, host: str) -> bool:
        """Whether the places that are left, if any, are for others."""
        return self.full or not self._terms.may_use_reserved(host)

    def _refusal(self, client: Client) -> CloseReason | None:
        """Why a client is refused for what it owes or holds, if it is."""
        rate, penalties = self._client_rate, self._penalties
        if rate is not None or penalties.accounts.count:
            now = self._clock()
            if (
                penalties.accounts.count
                and penalties.refuses(client.key, now)
                and self._says_no(client, CloseReason.PENALIZED)
            ):
                penalties.count_refusal(client.key, now)
                return CloseReason.PENALIZED
            if (
                rate is not None
                and self._wait(client, rate, now)
                and self._says_no(client, CloseReason.CLIENT_RATE)
            ):
                return CloseReason.CLIENT_RATE
        most, network = self._most, client.network
        if client.connections >= most and self._says_no(client, CloseReason.CLIENT_LIMIT):
            return CloseReason.CLIENT_LIMIT
        if (
            network is not None
            and network.connections >= (self._limits.per_network or 0)
            and self._says_no(client, CloseReason.NETWORK_LIMIT)
        ):
            return CloseReason.NETWORK_LIMIT
        return None

    def _wait(self, client: Client, rate: Rate, now: float) -> float:
        """Seconds until a client's rate lets it in."""
        seconds = rate.wait(client.full_at, now)
        if seconds and client.full_at > now + rate.whole:
            # Emptied while it was larger or slower, and not cleaned since.
            client.full_at = now + rate.whole
            if not client.connections:
                self._debts.put(client.key, client.full_at)
        return seconds

    def _says_no(self, client: Client, reason: CloseReason) -> bool:
        """Whether a limit that is reached refuses: not while it is on trial."""
        if reason in self._spared:
            if self.on_spared is not None:
                self.on_spared(reason, client.key)
            return False
        if reason is not CloseReason.CLIENT_LIMIT or self._limits.client_full != "evict":
            self.count_refusal(client, reason)
        return True

    def count_refusal(self, client: Client, reason: CloseReason) -> None:
        """A client was refused: count it, and charge it."""
        client.refused += 1
        seconds = self._limits.penalty_refused
        if seconds and reason not in _NOT_CHARGED:
            self.penalize(client, seconds, reason.value)

    def _take_tokens(self, client: Client) -> None:
        rate, total_rate = self._client_rate, self._total_rate
        if rate is None and total_rate is None:
            return
        now = self._clock()
        # On trial, a client that would have been refused takes none, as if it had been.
        if (
            rate is not None
            and not client.exempt
            and not (self._spared and rate.wait(client.full_at, now))
        ):
            client.full_at = rate.take(client.full_at, now)
        if total_rate is not None:
            self._total_full_at = total_rate.take(self._total_full_at, now)

    def delay(self) -> float:
        """Seconds until the rate of all clients lets the next one in; 0.0: now."""
        if self._total_rate is None:
            return 0.0
        return self._total_rate.wait(self._total_full_at, self._clock())

    # ---- Penalties

    def penalize(self, client: Client | str, seconds: float, why: str) -> Penalty | None:
        """Charge a client's account."""
        _check_seconds(seconds, "a penalty is {wanted}, not {seconds!r}", or_zero=True)
        if isinstance(client, str):
            key = self._named(client)
            live = self._clients.get(key)
            is_exempt = self._terms.is_exempt(key) if live is None else live.exempt
        else:
            key, is_exempt = client.key, client.exempt
        if is_exempt:
            return None
        if not self._has_place(key) and not self._clean_now():
            self._overflowed()
            if self._limits.table_full != "share":
                return None
            key = UNKNOWN_CLIENT
        penalty = self._penalties.charge(key, seconds, why, self._clock())
        self._keep(key)
        self._careful = True
        if self.on_penalized is not None:
            self.on_penalized(penalty, seconds)
        return penalty

    def _named(self, text: str) -> str:
        """The key that is meant by a key or an address."""
        key = self.key_of(text)
        return text if key == UNKNOWN_CLIENT else key

    def forgive(self, key: str) -> bool:
        """Clear the account of a client, given by key or address. Whether it owed anything."""
        has_owed = self._penalties.forgive(self._named(key), self._clock())
        self._careful = self._is_careful()
        return has_owed

    def penalties(self) -> Iterator[Penalty]:
        """Everybody who owes anything, in no order."""
        return self._penalties.listed(self._clock())

    # ---- Bans

    def ban(self, network: str, seconds: float | None = None, why: str = "") -> Ban:
        """Refuse all of a network from now on, those that are exempt as well."""
        if seconds is not None:
            _check_seconds(seconds, "a ban lasts {wanted}, not {seconds!r}")
        name, found = self._bannable(network)
        self._careful = True
        return self._bans.add(name, found, seconds, why, self._clock())

    def unban(self, network: str) -> bool:
        """Lift the ban of exactly this network. Returns whether there was one."""
        name, _ = self._bannable(network)
        was_banned = self._bans.remove(name, self._clock())
        self._careful = self._is_careful()
        return was_banned

    def bans(self) -> Iterator[Ban]:
        """The bans that last."""
        return self._bans.listed(self._clock())

    def is_banned(self, client: Client | str, scope: int = 0, uid: int | None = None) -> bool:
        """Whether a client is banned, or an address."""
        if not self._bans.entries:
            return False
        if isinstance(client, Client):
            key = text = client.key
        else:
            key, text = self.key_of(client, scope, uid), client
        return self._bans.cover(key, network_of_key(text), self._clock())

    def _bannable(self, text: Any) -> tuple[str, Network | None]:
        """The name under which a ban is kept, and its network, where it has one."""
        if isinstance(text, str):
            uid = text.removeprefix("uid:")
            if uid != text and uid.isascii() and uid.isdigit() and len(uid) <= 10:
                return user_key(int(uid)), None
            # A scope makes a client's key, which may be written with its prefix.
            first, percent, zone = text.partition("%")
            first = first.partition("/")[0]
            key = self.key_of(f"{first}{percent}{zone}") if percent else text
            if key == UNKNOWN_CLIENT == text or "%" in key:
                return key, None
        network = parse_network(text)
        return str(network), network

    # ---- Changing

    def change_limits(self, limits: Limits) -> bool:
        """Decide by other limits from now on. Whether clients have other keys now."""
        terms, old = Terms(limits), self._limits
        now = self._clock()
        self._use(limits, terms)
        self._total_full_at = min(self._total_full_at, _latest(self._total_rate, now))
        if _differ(old, limits, *_RATE_LIMITS):
            latest = _latest(self._client_rate, now)
            for client in self._clients.values():
                client.full_at = min(client.full_at, latest)
        if old.exempt_networks != limits.exempt_networks:
            self._exempt_anew()
        turned = (old.per_network is None) != (limits.per_network is None)
        if turned or _differ(old, limits, *_NETWORK_LIMITS):
            for client in self._clients.values():
                self._regroup(client)
        has_new_keys = _differ(old, limits, *_KEY_LIMITS)
        if has_new_keys:
            self._renaming = self._penalties.accounts.items()
            self._rename(now)
        if _differ(old, limits, *_RATE_LIMITS, *_PENALTY_LIMITS):
            self.clean(now)
        return has_new_keys

    def move(self, client: Client, host: str, scope: int = 0, uid: int | None = None) -> Client:
        """Count one connection under the key that it has now, with what its client owes."""
        key = self.key_of(host, scope, uid)
        if key == client.key or not client.listed:
            return client
        moved = self._clients.get(key)
        if moved is None:
            moved = self._introduce(Client(key, host))
            if client.key == UNKNOWN_CLIENT and not self._has_place(key):
                return client  # still no room to tell it apart
        self._count(moved)
        if client.key != UNKNOWN_CLIENT and not moved.exempt:
            moved.full_at = max(moved.full_at, client.full_at)
            self._penalties.carry(client.key, key, self._clock())
        self.release(client)
        return moved


def _latest(rate: Rate | None, now: float) -> float:
    """When a bucket is full again that is empty now, the most that there ever is to fill."""
    return 0.0 if rate is None else now + rate.whole


def _differ(old: Limits, new: Limits, *names: str) -> bool:
    return any(getattr(old, name) != getattr(new, name) for name in names)


def _check_seconds(seconds: Any, template: str, *, or_zero: bool = False) -> None:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 0 <= seconds < math.inf
        or (seconds == 0 and not or_zero)
    ):
        raise SettingError(
            template,
            wanted="a number of seconds" + ("" if or_zero else " above zero"),
            seconds=seconds,
        )
