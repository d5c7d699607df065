"""From packets to steps: what each is called, and what both sides are in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.trace import Note, Outcome, Side, Step, TcpState
from tieline.trace.following import Event, Progress, Story

from .wire import CLIENT, Wire, option

S = TcpState


def states(story: Story) -> list[tuple[TcpState, TcpState]]:
    return [(step.client_state, step.server_state) for step in story.steps]


def notes(story: Story) -> list[Note]:
    return [step.note for step in story.steps]


def lost(story: Story) -> list[int]:
    return [at for at, step in enumerate(story.steps) if step.shows(Note.LOST)]


def an_exchange(wire: Wire) -> None:
    """Four bytes, and eleven in answer."""
    wire.client("PSH ACK", 1, 1, data=b"ping")
    wire.server("ACK", 1, 5)
    wire.server("PSH ACK", 1, 5, data=b"thank you !")
    wire.client("ACK", 5, 12)


def test_a_short_connection() -> None:
    wire = Wire()
    wire.open()
    an_exchange(wire)
    wire.server("FIN ACK", 12, 5)
    wire.client("ACK", 5, 13)
    wire.client("FIN ACK", 5, 13)
    wire.server("ACK", 13, 6)
    story = wire.told()
    assert story.outcome is Outcome.CLOSED
    assert notes(story) == [
        Note.SYN, Note.SYN_ACK, Note.HANDSHAKE_ACK, Note.DATA, Note.ACK, Note.DATA, Note.ACK,
        Note.FIN, Note.FIN_ACK_OF_PEER, Note.FIN, Note.FIN_ACK_OF_PEER,
    ]  # fmt: skip
    assert states(story) == [
        (S.SYN_SENT, S.SYN_RECEIVED),
        (S.ESTABLISHED, S.SYN_RECEIVED),
        *[(S.ESTABLISHED, S.ESTABLISHED)] * 5,
        (S.CLOSE_WAIT, S.FIN_WAIT_1),
        (S.CLOSE_WAIT, S.FIN_WAIT_2),
        (S.LAST_ACK, S.TIME_WAIT),
        (S.CLOSED, S.TIME_WAIT),
    ]
    assert not any(step.extra or step.repeated for step in story.steps)
    assert [step.at for step in story.steps] == pytest.approx([n * 1e-5 for n in range(11)])


def test_a_fin_that_answers_a_fin() -> None:
    wire = Wire()
    wire.open()
    wire.client("FIN ACK", 1, 1)
    wire.server("FIN ACK", 1, 2)
    wire.client("ACK", 2, 2)
    story = wire.told()
    assert notes(story)[3:] == [Note.FIN, Note.FIN, Note.FIN_ACK_OF_PEER]
    assert story.steps[4].extra == {Note.FIN_ACK_OF_PEER}
    assert states(story)[3:] == [
        (S.FIN_WAIT_1, S.CLOSE_WAIT), (S.TIME_WAIT, S.LAST_ACK), (S.TIME_WAIT, S.CLOSED),
    ]  # fmt: skip


def test_numbers_that_wrap_around() -> None:
    wire = Wire(origins=((1 << 32) - 3, (1 << 32) - 1))
    wire.open()
    an_exchange(wire)
    story = wire.told()
    assert [(step.sequence, step.acknowledgement) for step in story.steps] == [
        (0, None), (0, 1), (1, 1), (1, 1), (1, 5), (1, 5), (5, 12),
    ]  # fmt: skip
    assert not any(step.repeated for step in story.steps)


def test_windows_are_scaled_where_both_sides_scale() -> None:
    for theirs, wanted in ((option(3, b"\x07"), [1000, 1000, 128_000]), (b"", [1000] * 3)):
        wire = Wire()
        wire.client("SYN", 0, options=option(3, b"\x07"))
        wire.server("SYN ACK", 0, 1, options=theirs)
        wire.client("ACK", 1, 1)
        assert [step.window for step in wire.told().steps] == wanted


def test_a_half_close() -> None:
    wire = Wire()
    wire.open()
    wire.client("PSH ACK", 1, 1, data=b"ping")
    wire.client("FIN ACK", 5, 1)
    wire.server("ACK", 1, 6)
    wire.server("PSH ACK", 1, 6, data=b"pong")
    wire.client("ACK", 6, 5)
    wire.server("FIN ACK", 5, 6)
    wire.client("ACK", 6, 6)
    story = wire.told()
    assert story.steps[4].extra == {Note.HALF_CLOSE}
    assert states(story)[5:8] == [(S.FIN_WAIT_2, S.CLOSE_WAIT)] * 3
    assert states(story)[8:] == [(S.TIME_WAIT, S.LAST_ACK), (S.TIME_WAIT, S.CLOSED)]


def test_a_simultaneous_close() -> None:
    wire = Wire()
    wire.open()
    wire.client("FIN ACK", 1, 1)
    wire.server("FIN ACK", 1, 1)
    wire.server("ACK", 2, 2)
    wire.client("ACK", 2, 2)
    story = wire.told()
    assert [step.extra for step in story.steps[3:5]] == [{Note.SIMULTANEOUS_CLOSE}] * 2
    assert states(story)[3:] == [
        # The server's FIN shows that it had not had the client's yet.
        (S.FIN_WAIT_1, S.ESTABLISHED),
        (S.CLOSING, S.FIN_WAIT_1),
        (S.TIME_WAIT, S.CLOSING),
        (S.TIME_WAIT, S.TIME_WAIT),
    ]
    assert story.outcome is Outcome.CLOSED


def test_data_that_is_still_on_its_way() -> None:
    """A FIN that crosses the server's data: the server goes on as if nothing had happened."""
    wire = Wire()
    wire.open()
    wire.client("FIN ACK", 1, 1)
    wire.server("PSH ACK", 1, 1, data=b"late")
    wire.server("FIN ACK", 5, 2)
    wire.client("ACK", 2, 6)
    story = wire.told()
    assert states(story)[3:] == [
        (S.FIN_WAIT_1, S.ESTABLISHED),
        (S.FIN_WAIT_1, S.ESTABLISHED),
        (S.TIME_WAIT, S.LAST_ACK),
        (S.TIME_WAIT, S.CLOSED),
    ]
    # It knew nothing of the end when it sent that: no half-close.
    assert story.steps[3].extra == frozenset()


def test_a_connection_that_is_refused() -> None:
    wire = Wire()
    wire.client("SYN", 0)
    wire.server("RST ACK", 0, 1)
    story = wire.told()
    assert notes(story) == [Note.SYN, Note.REFUSED]
    assert states(story) == [(S.SYN_SENT, S.CLOSED), (S.CLOSED, S.CLOSED)]
    assert story.outcome is Outcome.REFUSED
    assert [step.sequence for step in story.steps] == [0, 0]


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_reset(side: str) -> None:
    wire = Wire()
    wire.open()
    wire.client("PSH ACK", 1, 1, data=b"ping")
    if side == "server":
        wire.server("RST", 1)
    else:
        wire.client("RST ACK", 5, 1)
    story = wire.told()
    assert story.steps[-1].note is Note.RESET
    assert states(story)[-1] == (S.CLOSED, S.CLOSED)
    assert story.outcome is Outcome.RESET
    assert lost(story) == []


def test_a_reset_after_the_end_is_no_end() -> None:
    wire = Wire()
    wire.open()
    wire.client("FIN ACK", 1, 1)
    wire.server("FIN ACK", 1, 2)
    wire.client("ACK", 2, 2)
    wire.server("RST", 2)
    assert wire.told().outcome is Outcome.CLOSED


def test_a_server_that_never_answers() -> None:
    wire = Wire()
    wire.client("SYN", 0)
    wire.wait(1000)
    wire.client("SYN", 0)
    wire.wait(500)
    wire.events.append(Event(wire.now, Note.TIMEOUT))
    story = wire.told()
    assert notes(story) == [Note.SYN, Note.RETRANSMISSION, Note.TIMEOUT]
    assert story.steps[1].extra == {Note.SYN, Note.LOST}
    assert lost(story) == [0, 1]
    assert states(story) == [(S.SYN_SENT, S.LISTEN)] * 2 + [(S.CLOSED, S.LISTEN)]
    assert story.outcome is Outcome.TIMEOUT
    assert story.steps[-1].at == pytest.approx(1.50001)


def test_an_unreachable_server() -> None:
    wire = Wire()
    wire.client("SYN", 0)
    wire.wait(3)
    wire.events.append(Event(wire.now, Note.FAILED))
    story = wire.told()
    assert notes(story) == [Note.SYN, Note.FAILED]
    assert story.outcome is Outcome.UNREACHABLE


def test_data_that_is_lost_and_sent_again() -> None:
    wire = Wire()
    wire.open()
    wire.client("PSH ACK", 1, 1, data=b"ping")
    wire.wait(200)
    wire.client("PSH ACK", 1, 1, data=b"ping")
    wire.server("ACK", 1, 5)
    story = wire.told()
    assert lost(story) == [3]
    assert story.steps[3].note is Note.DATA
    assert story.steps[4].note is Note.RETRANSMISSION
    assert story.steps[4].repeated
    assert story.steps[4].extra == {Note.DATA}


def test_data_that_is_sent_again_too_early() -> None:
    """The server says that it had it already (RFC 2883)."""
    wire = Wire()
    wire.open()
    wire.client("PSH ACK", 1, 1, data=b"ping")
    wire.client("PSH ACK", 1, 1, data=b"ping")
    wire.server("ACK", 1, 5, sack=[(1, 5)])
    story = wire.told()
    assert lost(story) == []
    assert story.steps[4].repeated


def test_a_segment_is_lost_among_others() -> None:
    """Those that come after it are asked for its sake, and only it is sent again."""
    wire = Wire()
    wire.open()
    for start in (1, 101, 201):
        wire.client("ACK", start, 1, data=bytes(100))
    wire.server("ACK", 1, 1, sack=[(101, 201)])
    wire.server("ACK", 1, 1, sack=[(101, 301)])
    wire.client("ACK", 1, 1, data=bytes(100))
    wire.server("ACK", 1, 301)
    story = wire.told()
    assert lost(story) == [3]
    assert notes(story)[6:] == [
        Note.DUPLICATE_ACK, Note.DUPLICATE_ACK, Note.RETRANSMISSION, Note.ACK,
    ]  # fmt: skip


def test_a_segment_that_was_lost_before_it_came_here() -> None:
    wire = Wire()
    wire.open()
    wire.server("ACK", 101, 1, data=bytes(100))
    wire.client("ACK", 1, 1, sack=[(101, 201)])
    wire.server("ACK", 1, 1, data=bytes(100))
    wire.client("ACK", 1, 201)
    story = wire.told()
    assert story.steps[5].note is Note.RETRANSMISSION


def test_a_segment_that_was_overtaken_is_not_sent_again() -> None:
    wire = Wire()
    wire.open()
    wire.server("ACK", 101, 1, data=bytes(100))
    wire.server("ACK", 1, 1, data=bytes(100))
    wire.client("ACK", 1, 201)
    story = wire.told()
    assert notes(story)[3:5] == [Note.DATA, Note.DATA]
    assert not any(step.repeated for step in story.steps)


def test_the_answer_to_a_syn_is_lost() -> None:
    wire = Wire()
    wire.client("SYN", 0)
    wire.server("SYN ACK", 0, 1)
    wire.wait(1000)
    wire.client("SYN", 0)
    wire.server("SYN ACK", 0, 1)
    wire.client("ACK", 1, 1)
    story = wire.told()
    # The server answered the first SYN: it had it. That the client did not have the answer shows
    # in its asking again.
    assert lost(story) == [1]
    assert states(story) == [
        *[(S.SYN_SENT, S.SYN_RECEIVED)] * 3,
        (S.ESTABLISHED, S.SYN_RECEIVED),
        (S.ESTABLISHED, S.ESTABLISHED),
    ]


def test_the_last_acknowledgement_is_lost() -> None:
    """The side in TIME-WAIT is there to say it again."""
    wire = Wire()
    wire.open()
    wire.client("FIN ACK", 1, 1)
    wire.server("FIN ACK", 1, 2)
    wire.client("ACK", 2, 2)
    wire.wait(200)
    wire.server("FIN ACK", 1, 2)
    wire.client("ACK", 2, 2)
    story = wire.told()
    assert lost(story) == [5]
    assert notes(story)[6:] == [Note.RETRANSMISSION, Note.FIN_ACK_OF_PEER]
    assert states(story)[5:] == [
        (S.TIME_WAIT, S.LAST_ACK), (S.TIME_WAIT, S.LAST_ACK), (S.TIME_WAIT, S.CLOSED),
    ]  # fmt: skip


def test_signs_of_life() -> None:
    wire = Wire()
    wire.open()
    an_exchange(wire)
    wire.wait(60_000)
    wire.client("ACK", 4, 12)
    wire.server("ACK", 12, 5)
    wire.client("ACK", 4, 12, data=b"\0")
    wire.server("ACK", 12, 5, sack=[(4, 5)])
    story = wire.told()
    assert notes(story)[7:] == [Note.KEEPALIVE, Note.ACK] * 2
    assert [step.extra for step in story.steps[7:]] == [set(), {Note.KEEPALIVE}] * 2


def test_a_window_that_closes_and_opens() -> None:
    wire = Wire()
    wire.open()
    wire.client("PSH ACK", 1, 1, data=bytes(1000))
    wire.server("ACK", 1, 1001, window=0)
    wire.client("ACK", 1000, 1)
    wire.server("ACK", 1, 1001, window=0)
    wire.server("ACK", 1, 1001, window=800)
    story = wire.told()
    assert notes(story)[4:] == [
        Note.ZERO_WINDOW, Note.KEEPALIVE, Note.ZERO_WINDOW, Note.WINDOW_UPDATE,
    ]  # fmt: skip


def test_a_connection_whose_beginning_was_not_seen() -> None:
    wire = Wire()
    wire.client("PSH ACK", 77, 9, data=b"ping")
    wire.server("PSH ACK", 9, 81, data=b"pong")
    wire.server("FIN ACK", 13, 81)
    story = wire.told()
    assert [(step.sequence, step.acknowledgement) for step in story.steps] == [
        (1, 1), (1, 5), (5, 5),
    ]  # fmt: skip
    assert states(story)[0] == (S.ESTABLISHED, S.ESTABLISHED)
    assert story.outcome is Outcome.STILL_OPEN


def test_both_sides_open_at_once() -> None:
    wire = Wire()
    wire.client("SYN", 0)
    wire.server("SYN", 0)
    wire.client("SYN ACK", 0, 1)
    wire.server("SYN ACK", 0, 1)
    assert states(wire.told())[-1] == (S.ESTABLISHED, S.ESTABLISHED)


def test_the_next_connection_of_the_same_ports_is_another() -> None:
    wire = Wire()
    wire.open()
    wire.server("RST", 1)
    wire.client("SYN", 1_000_000)
    assert len(wire.told().steps) == 4


def test_no_packets_at_all() -> None:
    story = Wire().told()
    assert (story.steps, story.outcome) == ((), Outcome.STILL_OPEN)


def test_a_payload_is_kept_in_part() -> None:
    wire = Wire()
    wire.open()
    wire.client("PSH ACK", 1, 1, data=bytes(1000))
    assert (wire.told().steps[3].size, len(wire.told().steps[3].payload)) == (1000, 256)


# ---- Whatever comes

LEGAL = {
    S.CLOSED: {S.SYN_SENT, S.SYN_RECEIVED},
    S.LISTEN: {S.SYN_RECEIVED, S.SYN_SENT, S.CLOSED},
    S.SYN_SENT: {S.SYN_RECEIVED, S.ESTABLISHED, S.CLOSED},
    S.SYN_RECEIVED: {S.ESTABLISHED, S.FIN_WAIT_1, S.CLOSE_WAIT},
    S.ESTABLISHED: {S.FIN_WAIT_1, S.CLOSE_WAIT},
    S.FIN_WAIT_1: {S.FIN_WAIT_2, S.CLOSING, S.TIME_WAIT},
    S.FIN_WAIT_2: {S.TIME_WAIT},
    S.CLOSE_WAIT: {S.LAST_ACK},
    S.CLOSING: {S.TIME_WAIT},
    S.LAST_ACK: set(),
    S.TIME_WAIT: set(),
}


def reachable(before: TcpState, after: TcpState) -> bool:
    """Whether RFC 9293's arrows lead from one to the other; one step may be several of them."""
    if before is after or after is S.CLOSED:
        return True
    seen, edge = {before}, {before}
    while edge:
        edge = {there for here in edge for there in LEGAL[here]} - seen
        seen |= edge
    return after in seen


Saying = tuple[str, str, int, int, int, float]

#: Who, flags, sequence, acknowledgement, size of the payload, milliseconds before it.
SAYING = st.tuples(
    st.sampled_from(["client", "server"]),
    st.sampled_from(["SYN", "SYN ACK", "ACK", "PSH ACK", "FIN ACK", "RST", "RST ACK", "", "FIN"]),
    st.integers(0, 8),
    st.integers(0, 8),
    st.integers(0, 3),
    st.sampled_from([0.01, 300]),
)


def check(steps: tuple[Step, ...]) -> None:
    for before, after in pairwise(steps):
        assert before.at <= after.at
        assert reachable(before.client_state, after.client_state)
        assert reachable(before.server_state, after.server_state)


@given(st.lists(SAYING, max_size=25), st.booleans())
@settings(max_examples=400)
def test_anything_can_be_told(sayings: list[Saying], late: bool) -> None:
    wire = Wire()
    progress = Progress(CLIENT)
    for side, flags, sequence, acknowledgement, size, pause in sayings:
        wire.wait(pause)
        say = wire.client if side == "client" else wire.server
        say(flags, sequence, acknowledgement, data=bytes(size))
        progress.take(wire.segments[-1])
    if late:
        wire.events.append(Event(wire.now, Note.TIMEOUT))
    story = wire.told()
    assert len(story.segments) + late == len(story.steps)
    check(story.steps)


@given(st.data())
def test_whatever_of_a_connection_is_missing_from_the_capture(data: st.DataObject) -> None:
    wire = Wire()
    wire.open()
    an_exchange(wire)
    wire.client("FIN ACK", 5, 12)
    wire.server("ACK", 12, 6)
    wire.server("FIN ACK", 12, 6)
    wire.client("ACK", 6, 13)
    kept = data.draw(st.sets(st.integers(0, len(wire.segments) - 1)))
    wire.segments = [segment for at, segment in enumerate(wire.segments) if at in kept]
    story = wire.told()
    assert len(story.steps) == len(kept)
    assert not any(step.repeated for step in story.steps)
    check(story.steps)


def test_who_sent_it() -> None:
    wire = Wire()
    wire.open()
    assert [step.side for step in wire.told().steps] == [Side.CLIENT, Side.SERVER, Side.CLIENT]
    assert Side.CLIENT.other is Side.SERVER
