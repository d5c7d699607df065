"""Upstreams as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tieline import Address, AddressError, SettingError, TielineError
from tieline.guard.spec import UpstreamSpec, check_names, parse_upstream


def refused(text: str) -> str:
    """What is said against an upstream."""
    with pytest.raises((AddressError, SettingError)) as caught:
        parse_upstream(text)
    error = caught.value
    assert isinstance(error, TielineError)
    return f"{error} ({error.hint.format(**error.fields)})" if error.hint else str(error)


def test_an_address_is_enough() -> None:
    spec = parse_upstream("db.example:5432")
    assert spec == UpstreamSpec(Address("db.example", 5432))
    assert (spec.name, spec.weight, spec.max) == ("db.example:5432", 1, None)
    assert (spec.backup, spec.names) == (False, ())


def test_everything_at_once() -> None:
    text = "[::1]:5432,weight=2,max=50,backup,name=db1,sni=a.example,sni=*.b.example"
    spec = parse_upstream(text)
    assert spec == UpstreamSpec(
        Address("::1", 5432), name="db1", weight=2, max=50, backup=True,
        names=("a.example", "*.b.example"),
    )  # fmt: skip
    assert str(spec) == text
    assert parse_upstream(spec) is spec
    assert parse_upstream(Address("::1", 5432)) == UpstreamSpec(Address("::1", 5432))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/db.sock", Address(path="/run/db.sock")),
        ("unix:@db", Address(path="\0db")),
        (":5433", Address("", 5433)),
        ("*:5433", Address("", 5433)),
        (" 10.0.0.1:1 , weight=1", Address("10.0.0.1", 1)),
    ],
)
def test_kinds_of_addresses(text: str, address: Address) -> None:
    assert parse_upstream(text).address == address


def test_names_of_tls_are_lower_case_and_there_once() -> None:
    spec = parse_upstream("a:1,sni=A.Example,sni=a.example,sni=*.B.example,sni=xn--fiq228c")
    assert spec.names == ("a.example", "*.b.example", "xn--fiq228c")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an address"),
        ("db", "names no port"),
        ("db:0", "no port that can be connected to"),
        ("db:70000", "not a port"),
        ("weight=2,db:1", "names no port"),
        ("db:1,wieght=2", "'wieght' of an upstream, in 'db:1,wieght=2' (did you mean 'weight'?)"),
        ("db:1,q=2", "there are weight, max, backup, name, sni"),
        ("db:1,", "no '' of an upstream"),
        ("db:1,weight", "weight in 'db:1,weight' needs a value (write weight=...)"),
        ("db:1,weight=", "needs a value"),
        ("db:1,weight=x", "weight must be a whole number from 0 to 256, not 'x'"),
        ("db:1,weight=257", "weight must be a whole number from 0 to 256, not 257"),
        ("db:1,weight=-1", "weight must be"),
        ("db:1,weight=" + "9" * 5000, "weight must be"),
        ("db:1,weight=٣", "weight must be"),
        ("db:1,max=0", "max must be"),
        ("db:1,max=1.5", "max must be"),
        ("db:1,weight=1,weight=2", "twice"),
        ("db:1,backup,backup", "twice"),
        ("db:1,backup=yes", "takes no value"),
        ("db:1,name=a b", "cannot be the name of an upstream"),
        ("db:1,name=\x1b", "cannot be the name of an upstream"),
        ("db:1,name=" + "x" * 129, "cannot be the name of an upstream"),
        ("db:1,sni=*", "not a name that a TLS client asks for"),
        ("db:1,sni=a.*.b", "not a name"),
        ("db:1,sni=a..b", "not a name"),
        ("db:1,sni=-a.b", "not a name"),
        ("db:1,sni=例.example", "xn-- form"),
        ("db:1,sni=" + "a." * 130 + "b", "not a name"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    assert said in refused(text)


def test_what_is_no_text() -> None:
    with pytest.raises(AddressError):
        parse_upstream(7)  # type: ignore[arg-type]


def test_a_path_with_a_comma_cannot_be_written() -> None:
    with pytest.raises(AddressError, match="commas"):
        UpstreamSpec(Address(path="/a,b"))


def test_names_are_different() -> None:
    check_names([parse_upstream("a:1"), parse_upstream("a:1,name=b")])
    with pytest.raises(SettingError, match="two upstreams are called 'a:1'"):
        check_names([parse_upstream("a:1"), parse_upstream("b:1,name=a:1")])


LABELS = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,10}[a-z0-9_])?", fullmatch=True)
SERVER_NAMES = st.builds(
    lambda star, labels: star + ".".join(labels),
    st.sampled_from(["", "*."]),
    st.lists(LABELS, min_size=1, max_size=4),
)
ADDRESSES = st.one_of(
    st.builds(Address, LABELS, st.integers(1, 65535)),
    st.builds(Address, st.ip_addresses(v=6).map(str), st.integers(1, 65535)),
    st.builds(lambda name: Address(path="/" + name), LABELS),
)
SPECS = st.builds(
    UpstreamSpec,
    ADDRESSES,
    name=st.text(
        st.characters(categories=["L", "N", "P", "S"], exclude_characters=","), max_size=9
    ),
    weight=st.integers(0, 256),
    max=st.none() | st.integers(1, 10**8),
    backup=st.booleans(),
    names=st.lists(SERVER_NAMES, max_size=3).map(tuple),
)


@given(SPECS)
def test_what_is_written_is_read_back(spec: UpstreamSpec) -> None:
    assert parse_upstream(str(spec)) == spec


@given(st.text())
def test_any_text_is_an_upstream_or_refused_in_a_sentence(text: str) -> None:
    try:
        spec = parse_upstream(text)
    except (AddressError, SettingError):
        refused(text)
    else:
        assert parse_upstream(str(spec)) == spec
