"""What an operator does to a server that runs: see, change, and undo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import methodcaller
from typing import Any

from .acceptor import last_words
from .clocks import first_check
from .errors import SettingError, TielineError, UsageError
from .events import ClientBanned, ClientUnbanned, LimitsChanged
from .eviction import Holdings, over_the_caps
from .hosting import Hosting
from .limits import RULES
from .reasons import CloseReason
from .sweep import Sweep

__all__ = ["Operating"]


class Operating(Hosting):
    """A server's live limits, bans and kicks."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sweeps: list[Sweep] = []
        # What refused clients are told; made now, so that a text that cannot be sent is said now.
        self._last_words = self._make_last_words(self.limits)

    def _make_last_words(self, limits: Any) -> dict[CloseReason, bytes]:
        # Over TLS nothing can be said before the handshake, which a refused client is spared.
        if self._tls is not None:
            return {}
        try:
            return last_words(limits, lambda text: self._pack_words(limits, text))
        except TielineError as error:
            raise SettingError(
                "refusal {text!r} cannot be sent: {detail}", text=limits.refusal, detail=str(error)
            ) from error

    def change_limits(self, *, evict: bool = False, **changes: Any) -> dict[str, tuple[Any, Any]]:
        """Change limits while connections are open. All of the changes are made, or none.

        Clocks count from where they are: an idle limit that is lowered closes at once what has
        been idle for longer. Sizes of messages apply to connections that come from now on,
        everything else to all. A cap that is lowered below what is held lets it run on, and
        nobody in until there is room.

        Args:
            evict: close connections down to the caps instead, the idle first (`evicted`).
            changes: new values by name, as for `Limits`.

        Returns:
            The old and the new value of each limit that is different now.

        Raises:
            SettingError: there is no such limit, or a value makes no sense; nothing has changed.
        """
        new = self.limits.replace(**changes)
        words = self._make_last_words(new)
        self._check_limits(new)
        # The last that may refuse, so that all has changed or nothing.
        has_new_keys = self.admission.change_limits(new)
        old, self.limits = self.limits, new
        changed = {
            name: (getattr(old, name), getattr(new, name))
            for name in RULES
            if getattr(old, name) != getattr(new, name)
        }
        if changed:
            self._apply(changed, words, has_new_keys)
        if evict:
            self._sweep(
                over_the_caps(self.connections, new),
                lambda connection: connection.abort(CloseReason.EVICTED),
            )
        return changed

    def _apply(
        self,
        changed: dict[str, tuple[Any, Any]],
        words: dict[CloseReason, bytes],
        has_new_keys: bool,
    ) -> None:
        limits = self.limits
        self.first_check = first_check(limits)
        self._last_words = words
        if has_new_keys:
            # A few at a time: newcomers are counted under their new keys at once.
            self._sweep(self.connections, self._move)
        if self._acceptor is not None:
            self._set_up_acceptor()
            self._acceptor.resume()
        self._sweep(self.connections, methodcaller("check_clocks"))
        if self.events.wanted:
            texts = tuple(f"{name}: {was!r} -> {now!r}" for name, (was, now) in changed.items())
            self.events.announce(LimitsChanged(changes=texts))

    def _move(self, connection: Any) -> None:
        """Count it under the key that its client has now."""
        if connection.close_reason is not None:
            return
        holdings = None if self._acceptor is None else self._acceptor.holdings
        if holdings is not None:
            holdings.remove(connection)
        connection.client = self.admission.move(connection.client, *_who(connection))
        if holdings is not None:
            holdings.add(connection)

    def _set_up_acceptor(self) -> None:
        assert self._acceptor is not None
        self._acceptor.last_words = self._last_words
        own = self.limits.client_full == "evict"
        if own != (self._acceptor.holdings is not None):
            self._acceptor.holdings = Holdings(self.connections) if own else None

    def kick(self, *connections: Any) -> int:
        """Reset connections, given themselves or by number (`kicked`).

        Returns:
            How many of them were open.
        """
        found = [self.connection(each) if isinstance(each, int) else each for each in connections]
        alive = [each for each in dict.fromkeys(found) if each and each.close_reason is None]
        self._sweep(alive, lambda connection: connection.abort(CloseReason.KICKED))
        return len(alive)

    def kick_client(self, key: str) -> int:
        """Reset every connection of a client machine, given by its key (`kicked`).

        Returns:
            How many there were.
        """
        return self.kick(*(each for each in self.connections if each.client.key == key))

    def ban(self, network: str, seconds: float | None = None, why: str = "") -> int:
        """Refuse a client or network, and close what it holds (`banned`).

        Args:
            network: an address, a network such as `10.0.0.0/8`, a client's key, or `uid:1000`.
            seconds: for how long; `None` (default): until `unban`.
            why: for whoever asks.

        Returns:
            How many connections are closed for it.

        Raises:
            SettingError: it is no address, network or key.
        """
        if seconds is not None and not seconds > 0:
            raise UsageError(
                "a ban lasts a number of seconds above zero, not {seconds!r}", seconds=seconds
            )
        ban = self.admission.ban(network, seconds, why)
        self._clean_later()
        held = [each for each in self.connections if self._is_banned(each)]
        self._sweep(held, lambda connection: connection.abort(CloseReason.BANNED))
        if self.events.wanted:
            self.events.announce(
                ClientBanned(network=ban.network, seconds=seconds, why=why, closed=len(held))
            )
        return len(held)

    def _is_banned(self, connection: Any) -> bool:
        # By its address: of a client that is a whole network, only some may be banned.
        return self.admission.is_banned(*_who(connection))

    def unban(self, network: str) -> bool:
        """Lift a ban, and forgive what a client owes in penalties.

        Returns:
            Whether there was anything to lift.

        Raises:
            SettingError: it is nothing that could be banned.
        """
        lifted = self.admission.unban(network)
        forgiven = self.admission.forgive(network)
        if (lifted or forgiven) and self.events.wanted:
            self.events.announce(ClientUnbanned(network=network))
        return lifted or forgiven

    def _sweep(
        self,
        connections: Iterable[Any],
        act: Callable[[Any], object],
        seconds: float = 0.0,
    ) -> None:
        """Do it to all of them, in the background where there are many."""
        if self._reactor is None:
            return
        self._sweeps = [each for each in self._sweeps if not each.is_done]
        sweep = Sweep(self._reactor.loop, connections, act, seconds)
        if not sweep.is_done:
            self._sweeps.append(sweep)


def _who(connection: Any) -> tuple[str, int, int | None]:
    """Host, scope and user of a connection's peer, as admission asks for them. (`peer` would make
    an address of each, and keep it.)"""
    host = connection.peer_host
    if not host:
        return "", 0, connection.peer_user
    return host, connection.peer.scope if ":" in host else 0, None
