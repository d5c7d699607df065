"""What can be asked of a server, as methods, for programs on asyncio."""

from __future__ import annotations

from typing import Any, Unpack, cast

from .requests import ClientsQuery, ConnectionsQuery, ids_of
from .results import (
    BanResult,
    BansResult,
    ClientsResult,
    ConnectionDetails,
    ConnectionsResult,
    DrainResult,
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

__all__ = ["Asking"]


class Asking:
    """The verbs that answer once. Those that go on, and the connection, are `Control`'s."""

    async def ask(self, verb: str, /, **arguments: Any) -> dict[str, Any]:
        """Ask for any verb, also one that this version does not know."""
        raise NotImplementedError

    # ---- Looking

    async def info(self) -> InfoResult:
        """The server: what it is, since when, and what it has counted."""
        return cast(InfoResult, await self.ask("info"))

    async def connections(self, **query: Unpack[ConnectionsQuery]) -> ConnectionsResult:
        """The open connections, page by page. For the arguments see `ConnectionsQuery`."""
        return cast(ConnectionsResult, await self.ask("connections", **query))

    async def connection(self, id: int) -> ConnectionDetails:
        """All there is to know of one connection."""
        return cast(ConnectionDetails, await self.ask("connection", id=id))

    async def clients(self, **query: Unpack[ClientsQuery]) -> ClientsResult:
        """The client machines that hold connections. For the arguments see `ClientsQuery`."""
        return cast(ClientsResult, await self.ask("clients", **query))

    async def bans(self, limit: int = 1000) -> BansResult:
        """Who is banned, and who owes penalties; up to `limit` of each, 1 to 1000."""
        return cast(BansResult, await self.ask("bans", limit=limit))

    async def limits(self) -> LimitsResult:
        """Every limit, its unit and its default."""
        return cast(LimitsResult, await self.ask("limits"))

    async def metrics(self) -> MetricsResult:
        """Everything as Prometheus reads it."""
        return cast(MetricsResult, await self.ask("metrics"))

    async def help(self) -> HelpResult:
        """The verbs of the server and their arguments."""
        return cast(HelpResult, await self.ask("help"))

    # ---- Changing

    async def kick(self, *ids: int, client: str | None = None) -> KickResult:
        """Reset connections: those of these numbers, or all of one client, given by its key."""
        return cast(KickResult, await self.ask("kick", id=ids_of(ids), client=client))

    async def ban(self, network: str, seconds: float | None = None, why: str = "") -> BanResult:
        """Refuse a client or network, and close what it holds.

        Args:
            network: an address, a network such as `10.0.0.0/8`, `uid:1000`, or a client's key.
            seconds: for how long; `None` (default): until it is lifted.
            why: for whoever asks.
        """
        result = await self.ask("ban", network=network, seconds=seconds, why=why)
        return cast(BanResult, result)

    async def unban(self, network: str) -> UnbanResult:
        """Lift a ban, and forgive what a client owes in penalties."""
        return cast(UnbanResult, await self.ask("unban", network=network))

    async def change_limits(self, *, evict: bool = False, **changes: Any) -> LimitsChange:
        """Change limits: all of the changes are made, or none.

        Args:
            evict: close connections down to lowered caps.
            changes: new values by name; `None` switches a limit off.
        """
        return cast(LimitsChange, await self.ask("limits", changes=changes, evict=evict))

    async def drain(self, seconds: float = 10.0, spread: float = 0.0) -> DrainResult:
        """Let nobody new in, and wait until connections have finished.

        Args:
            seconds: how long they have (default 10).
            spread: over how many seconds they are told (default 0: at once).
        """
        return cast(DrainResult, await self.ask("drain", seconds=seconds, spread=spread))

    # ---- A guard

    async def upstreams(self) -> UpstreamsResult:
        """A guard's upstreams: whether they are up, what they have, what has failed there."""
        return cast(UpstreamsResult, await self.ask("upstreams"))

    async def upstream_add(self, upstream: str) -> UpstreamChange:
        """Give a guard one upstream more.

        Args:
            upstream: `HOST:PORT` or `unix:PATH`, with options behind commas, as for
                `tieline.guard.serve`.
        """
        return cast(UpstreamChange, await self.ask("upstream_add", upstream=upstream))

    async def upstream_drain(self, name: str) -> UpstreamChange:
        """Give the upstream of this name no new sessions; those it has go on."""
        return cast(UpstreamChange, await self.ask("upstream_drain", name=name))

    async def upstream_enable(self, name: str) -> UpstreamChange:
        """Undo `upstream_drain`."""
        return cast(UpstreamChange, await self.ask("upstream_enable", name=name))

    async def upstream_remove(self, name: str) -> UpstreamChange:
        """Take the upstream of this name away; sessions that it has go on."""
        return cast(UpstreamChange, await self.ask("upstream_remove", name=name))

    async def settings(self) -> SettingsResult:
        """Every setting of a guard, its unit and its default. Bytes are text, as UTF-8; those that
        are none are lone surrogates in it (`surrogateescape`)."""
        return cast(SettingsResult, await self.ask("settings"))

    async def change_settings(self, **changes: Any) -> SettingsChange:
        """Change settings of a guard: all of the changes are made, or none.

        Args:
            changes: new values by name; `None` switches a setting off.
        """
        return cast(SettingsChange, await self.ask("settings", changes=changes))
