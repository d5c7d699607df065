"""From captured segments to the steps of one connection. No sockets, no clock: packets only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..address import Address
from .delivery import LOST, ON_ITS_WAY, arrivals
from .model import KEPT_PAYLOAD, Note, Outcome, Side, Step, TcpState
from .naming import Naming
from .numbering import Numbered, Numbering
from .packets import Flags, Segment
from .states import SideState

__all__ = ["Event", "Progress", "Story", "follow"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that leaves no packet: the client gave up.

    Attributes:
        at_ns: when, in nanoseconds since 1970.
        note: `TIMEOUT`, or `FAILED` where the network said that there is no way.
        side: who did.
    """

    at_ns: int
    note: Note
    side: Side = Side.CLIENT


@dataclass(frozen=True, slots=True)
class Story:
    """What was made of the packets.

    Attributes:
        steps: in order of time.
        segments: those that the steps are of, in the same order.
        outcome: how it ended.
        started_at_ns: the first step's time, in nanoseconds since 1970; 0 without steps.
    """

    steps: tuple[Step, ...]
    segments: tuple[Segment, ...]
    outcome: Outcome
    started_at_ns: int


def follow(segments: Iterable[Segment], client: Address, events: Iterable[Event] = ()) -> Story:
    """Tell what happened on one connection.

    Args:
        segments: those of the connection, of both sides, each once, in order of time.
        client: who connected: its host and its port.
        events: what the client did that left no packet.
    """
    numbering = Numbering((client.host, client.port))
    numbered = _one_connection(numbering.take(segment) for segment in segments)
    told = sorted(events, key=lambda event: event.at_ns)
    story = _Telling(numbered, told)
    steps = story.steps()
    times = [each.segment.packet.at_ns for each in numbered[:1]]
    times += [event.at_ns for event in told[:1]]
    return Story(
        steps, tuple(each.segment for each in numbered), story.outcome(), min(times, default=0)
    )


def _one_connection(numbered: Iterable[Numbered]) -> list[Numbered]:
    """The segments until the same two ports begin another connection."""
    found: list[Numbered] = []
    for each in numbered:
        begins = each.segment.has(Flags.SYN) and not each.segment.has(Flags.ACK)
        if begins and each.start != 0 and found:
            break
        found.append(each)
    return found


class Progress:
    """Whether a connection is over, asked while its packets are still coming."""

    def __init__(self, client: Address) -> None:
        self._numbering = Numbering((client.host, client.port))
        self._end: dict[Side, int] = {}
        self._acknowledged = dict.fromkeys(Side, -1)
        self._is_reset = False

    def take(self, segment: Segment) -> None:
        """The next segment."""
        each = self._numbering.take(segment)
        if each.is_reset:
            self._is_reset = True
            return
        if segment.has(Flags.FIN):
            self._end[each.side] = each.end
        if each.acknowledgement is not None:
            other = each.side.other
            self._acknowledged[other] = max(self._acknowledged[other], each.acknowledgement)

    @property
    def is_over(self) -> bool:
        """Whether it was reset, or both sides have ended their streams and been answered."""
        return self._is_reset or all(
            side in self._end and self._acknowledged[side] >= self._end[side] for side in Side
        )


class _Telling:
    """Both sides' states and the notes, step by step."""

    def __init__(self, numbered: Sequence[Numbered], events: Sequence[Event]) -> None:
        self._numbered = numbered
        self._events = events
        self._timed_out = any(event.note is Note.TIMEOUT for event in events)
        self._arrived = arrivals(numbered, gave_up_at_ns=events[0].at_ns if events else None)
        self._naming = Naming(numbered)
        begins = not numbered or numbered[0].segment.has(Flags.SYN)
        client, server = TcpState.CLOSED, TcpState.LISTEN
        if not begins:
            client = server = TcpState.ESTABLISHED
        elif self._naming.refused:
            # Nobody listens there.
            server = TcpState.CLOSED
        self._states = {
            Side.CLIENT: SideState(Side.CLIENT, client),
            Side.SERVER: SideState(Side.SERVER, server),
        }
        #: What was held up, by the place before which it arrives.
        self._held: dict[int, list[Numbered]] = {}
        self._cut_off = False

    def steps(self) -> tuple[Step, ...]:
        steps: list[Step] = []
        first = self._first_time()
        events = list(self._events)
        for at, each in enumerate(self._numbered):
            now = each.segment.packet.at_ns
            while events and events[0].at_ns < now:
                steps.append(self._event(events.pop(0), first))
            self._move(at, each)
            steps.append(self._segment(at, each, first))
        steps.extend(self._event(event, first) for event in events)
        return tuple(steps)

    def outcome(self) -> Outcome:
        if self._timed_out:
            return Outcome.TIMEOUT
        if any(event.note is Note.FAILED for event in self._events):
            return Outcome.UNREACHABLE
        if self._naming.refused:
            return Outcome.REFUSED
        if self._cut_off:
            return Outcome.RESET
        over = {TcpState.CLOSED, TcpState.TIME_WAIT}
        ended = bool(self._numbered) and all(each.state in over for each in self._states.values())
        return Outcome.CLOSED if ended else Outcome.STILL_OPEN

    def _first_time(self) -> int:
        times = [each.segment.packet.at_ns for each in self._numbered[:1]]
        return min([*times, *(event.at_ns for event in self._events[:1])], default=0)

    def _move(self, at: int, each: Numbered) -> None:
        """What this step does to both states."""
        for held in self._held.pop(at, ()):
            self._states[held.side.other].receive(held)
        over = {TcpState.CLOSED, TcpState.TIME_WAIT}
        if each.is_reset and any(state.state not in over for state in self._states.values()):
            self._cut_off = True
        self._states[each.side].send(each)
        arrived = self._arrived[at]
        if arrived == at + 1:
            self._states[each.side.other].receive(each)
        elif arrived not in (LOST, ON_ITS_WAY):
            self._held.setdefault(arrived, []).append(each)

    def _segment(self, at: int, each: Numbered, first: int) -> Step:
        segment = each.segment
        note, extra = self._naming.name(at)
        if self._arrived[at] == LOST:
            extra = extra | {Note.LOST}
        return self._with_states(
            Step(
                at=(segment.packet.at_ns - first) / 1e9,
                side=each.side,
                note=note,
                flags=segment.flag_names,
                sequence=each.start,
                acknowledgement=each.acknowledgement,
                size=len(segment.payload),
                payload=segment.payload[:KEPT_PAYLOAD],
                window=each.window,
                options=segment.option_names,
                repeated=each.repeated,
                extra=extra,
            )
        )

    def _event(self, event: Event, first: int) -> Step:
        state = self._states[event.side]
        if event.note is Note.FAILED or state.state is TcpState.SYN_SENT:
            state.state = TcpState.CLOSED
        return self._with_states(
            Step(at=(event.at_ns - first) / 1e9, side=event.side, note=event.note)
        )

    def _with_states(self, step: Step) -> Step:
        return replace(
            step,
            client_state=self._states[Side.CLIENT].state,
            server_state=self._states[Side.SERVER].state,
        )
