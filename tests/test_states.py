"""The table of states: complete, and with one way out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline.reasons import CloseReason
from tieline.states import Move, State, next_state

ALLOWED = {
    (State.HANDSHAKE, Move.SECURED): State.OPEN,
    (State.OPEN, Move.PEER_ENDED): State.PEER_ENDED,
    (State.OPEN, Move.HALF_CLOSE): State.HALF_CLOSED,
    (State.OPEN, Move.CLOSE): State.CLOSING,
    (State.PEER_ENDED, Move.HALF_CLOSE): State.CLOSING,
    (State.PEER_ENDED, Move.CLOSE): State.CLOSING,
    (State.HALF_CLOSED, Move.PEER_ENDED): State.CLOSING,
    (State.HALF_CLOSED, Move.CLOSE): State.CLOSING,
} | {(state, Move.GONE): State.CLOSED for state in State if state is not State.CLOSED}


@pytest.mark.parametrize(("state", "move"), list(itertools.product(State, Move)))
def test_every_move_from_every_state_leads_where_the_drawing_says(state: State, move: Move) -> None:
    if (state, move) in ALLOWED:
        assert next_state(state, move) is ALLOWED[state, move]
    else:
        with pytest.raises(RuntimeError, match=f"{state.name} cannot {move.name}"):
            next_state(state, move)


@given(st.lists(st.sampled_from(Move), max_size=20))
def test_no_walk_leads_back(moves: list[Move]) -> None:
    """A life goes forward: no state is seen twice, and the last one is the last."""
    state, seen = State.HANDSHAKE, [State.HANDSHAKE]
    for move in moves:
        if (state, move) in ALLOWED:
            state = next_state(state, move)
            assert state not in seen
            seen.append(state)


def test_reasons_are_words_for_log_lines_and_counters() -> None:
    for reason in CloseReason:
        assert str(reason) == reason.value == reason.name.lower()
    good = {reason for reason in CloseReason if reason.in_good_order}
    assert good == {
        CloseReason.PEER_CLOSED, CloseReason.CLOSED, CloseReason.SHUTDOWN,
        CloseReason.UPSTREAM_CLOSED,
    }  # fmt: skip
