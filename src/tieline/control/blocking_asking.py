"""What can be asked of a server, as methods, for programs without asyncio."""

from __future__ import annotations

from typing import Any, Unpack, cast

from .requests import ClientsQuery, ConnectionsQuery, ids_of
from .results import (
    BanResult,
    BansResult,
    ClientsResult,
    ConnectionDetails,
    ConnectionsResult,
    HelpResult,
    InfoResult,
    KickResult,
    LimitsChange,
    LimitsResult,
    MetricsResult,
    SettingsChange,
    SettingsResult,
    UnbanResult,
    UpstreamChange,
    UpstreamsResult,
)

__all__ = ["BlockingAsking"]


class BlockingAsking:
    """The verbs that answer once. Those that go on, and the connection, are `Control`'s."""

    def ask(self, verb: str, /, **arguments: Any) -> dict[str, Any]:
        """Ask for any verb, also one that this version does not know."""
        raise NotImplementedError

    # ---- Looking

    def info(self) -> InfoResult:
        """The server: what it is, since when, and what it has counted."""
        return cast(InfoResult, self.ask("info"))

    def connections(self, **query: Unpack[ConnectionsQuery]) -> ConnectionsResult:
        """The open connections, page by page. For the arguments see `ConnectionsQuery`."""
        return cast(ConnectionsResult, self.ask("connections", **query))

    def connection(self, id: int) -> ConnectionDetails:
        """All there is to know of one connection."""
        return cast(ConnectionDetails, self.ask("connection", id=id))

    def clients(self, **query: Unpack[ClientsQuery]) -> ClientsResult:
        """The client machines that hold connections. For the arguments see `ClientsQuery`."""
        return cast(ClientsResult, self.ask("clients", **query))

    def bans(self, limit: int = 1000) -> BansResult:
        """Who is banned, and who owes penalties; up to `limit` of each, 1 to 1000."""
        return cast(BansResult, self.ask("bans", limit=limit))

    def limits(self) -> LimitsResult:
        """Every limit, its unit and its default."""
        return cast(LimitsResult, self.ask("limits"))

    def metrics(self) -> MetricsResult:
        """Everything as Prometheus reads it."""
        return cast(MetricsResult, self.ask("metrics"))

    def help(self) -> HelpResult:
        """The verbs of the server and their arguments."""
        return cast(HelpResult, self.ask("help"))

    # ---- Changing

    def kick(self, *ids: int, client: str | None = None) -> KickResult:
        """Reset connections: those of these numbers, or all of one client, given by its key."""
        return cast(KickResult, self.ask("kick", id=ids_of(ids), client=client))

    def ban(self, network: str, seconds: float | None = None, why: str = "") -> BanResult:
        """Refuse a client or network, and close what it holds.

        Args:
            network: an address, a network such as `10.0.0.0/8`, `uid:1000`, or a client's key.
            seconds: for how long; `None` (default): until it is lifted.
            why: for whoever asks.
        """
        return cast(BanResult, self.ask("ban", network=network, seconds=seconds, why=why))

    def unban(self, network: str) -> UnbanResult:
        """Lift a ban, and forgive what a client owes in penalties."""
        return cast(UnbanResult, self.ask("unban", network=network))

    def change_limits(self, *, evict: bool = False, **changes: Any) -> LimitsChange:
        """Change limits: all of the changes are made, or none.

        Args:
            evict: close connections down to lowered caps.
            changes: new values by name; `None` switches a limit off.
        """
        return cast(LimitsChange, self.ask("limits", changes=changes, evict=evict))

    # ---- A guard

    def upstreams(self) -> UpstreamsResult:
        """A guard's upstreams: whether they are up, what they have, what has failed there."""
        return cast(UpstreamsResult, self.ask("upstreams"))

    def upstream_add(self, upstream: str) -> UpstreamChange:
        """Give a guard one upstream more.

        Args:
            upstream: `HOST:PORT` or `unix:PATH`, with options behind commas, as for
                `tieline.guard.serve`.
        """
        return cast(UpstreamChange, self.ask("upstream_add", upstream=upstream))

    def upstream_drain(self, name: str) -> UpstreamChange:
        """Give the upstream of this name no new sessions; those it has go on."""
        return cast(UpstreamChange, self.ask("upstream_drain", name=name))

    def upstream_enable(self, name: str) -> UpstreamChange:
        """Undo `upstream_drain`."""
        return cast(UpstreamChange, self.ask("upstream_enable", name=name))

    def upstream_remove(self, name: str) -> UpstreamChange:
        """Take the upstream of this name away; sessions that it has go on."""
        return cast(UpstreamChange, self.ask("upstream_remove", name=name))

    def settings(self) -> SettingsResult:
        """Every setting of a guard, its unit and its default. Bytes are text, as UTF-8; those that
        are none are lone surrogates in it (`surrogateescape`)."""
        return cast(SettingsResult, self.ask("settings"))

    def change_settings(self, **changes: Any) -> SettingsChange:
        """Change settings of a guard: all of the changes are made, or none.

        Args:
            changes: new values by name; `None` switches a setting off.
        """
        return cast(SettingsChange, self.ask("settings", changes=changes))
