"""What is asked of the chat, as text and as JSON: read, or refused in words."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptproxy.peers.chat.commands import (
    MAX_LINE,
    VERBS,
    Accept,
    Add,
    AnsweredError,
    Asked,
    CommandError,
    Contacts,
    History,
    Invite,
    Keep,
    Presence,
    Quit,
    Rename,
    Say,
    Verify,
    parse_json,
    parse_slash,
    parse_text,
    usage,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("anna: hello: you", Say("anna", "hello: you")),
        ("anna (bobab): hi", Say("anna (bobab)", "hi")),
        ("/contacts", Contacts()),
        ("/invite for Ben at work", Invite("for Ben at work")),
        ("/add LINE", Add("LINE")),
        ('/add LINE "Ben B"', Add("LINE", "Ben B")),
        ('/verify "anna b" 12345 67890', Verify("anna b", "12345 67890")),
        ("/accept anna a b c d", Accept("anna", "a b c d")),
        ("/rename anna Anna B", Rename("anna", "Anna B")),
        ("/presence anna on", Presence("anna", "on")),
        ("/history anna 5", History("anna", 5)),
        ("/quit", Quit()),
    ],
)
def test_lines_of_text(line: str, command: object) -> None:
    assert parse_text(line) == command


@pytest.mark.parametrize(
    ("line", "command"),
    [("/verify 1 2", Verify("anna b", "1 2")), ("/keep", Keep("anna b")), ("/contacts", Contacts())],
)
def test_in_a_conversation_whom_is_left_out(line: str, command: object) -> None:
    assert parse_slash(line, "anna b") == command


@pytest.mark.parametrize(
    "line",
    [
        "", "hello", ": hello", "anna:", "/", "/nothing", "/keep", "/keep anna b", "/quit now", '/keep "anna',
        "/presence anna maybe", "/history anna 0", "/history anna x", "/history anna 99999", "/say anna hi",
    ],
)  # fmt: skip
def test_lines_that_ask_for_nothing(line: str) -> None:
    with pytest.raises(CommandError):
        parse_text(line)


def test_objects() -> None:
    say = {"do": "say", "who": "anna", "text": "two\nrows \x1b", "id": "7"}
    assert parse_json(json.dumps(say).encode()) == Asked(Say("anna", "two\nrows \x1b"), "7")
    assert parse_json(b'{"do": "history", "who": "anna", "count": 3}') == Asked(History("anna", 3))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "one JSON object"),
        (b"[]", "one JSON object"),
        (b'{"do": "say"}', "say takes who, text"),
        (b'{"do": "say", "who": "a", "text": "b", "x": 1}', "say takes"),
        (b'{"do": "say", "who": "a", "text": 3}', "text is a text"),
        (b'{"do": "say", "who": " ", "text": "b"}', "who is a text"),
        (b'{"do": "history", "who": "a", "count": true}', "count is a number"),
        (b'{"do": "say", "who": "a", "text": "\\ud800"}', "half a character"),
        (b'{"do": "fly"}', "do is one of"),
        (b'{"do": ["say"]}', "do is one of"),
        (b'{"do": "quit", "id": 5}', "id is a string"),
        (b"[" * 100_000, "one JSON object"),
        (b'{"do": "quit"}' + b" " * MAX_LINE, "one JSON object"),
        (b'{"do": "say", "who": "a", "text": "\xff"}', "one JSON object"),
    ],
)
def test_objects_that_ask_for_nothing(line: bytes, says: str) -> None:
    with pytest.raises(CommandError, match=says):
        parse_json(line)


def test_a_refusal_carries_the_id() -> None:
    with pytest.raises(AnsweredError) as caught:
        parse_json(b'{"do": "keep", "id": "9"}')
    assert caught.value.id == "9"


@given(st.text(max_size=40))
def test_any_text_is_a_command_or_an_error(text: str) -> None:
    for line in (text, "/" + text, "/keep " + text):
        with contextlib.suppress(CommandError):
            assert type(parse_text(line)) in VERBS.values()


@given(
    st.binary(max_size=40)
    | st.dictionaries(st.sampled_from(["do", "who", "text", "id", "count"]), JSON).map(
        lambda found: json.dumps(found).encode()
    )
    | st.fixed_dictionaries(
        {"do": st.sampled_from(sorted(VERBS))}, optional={"who": JSON, "text": JSON, "count": JSON}
    ).map(lambda found: json.dumps(found).encode())
)
def test_any_bytes_are_a_command_or_an_error(line: bytes) -> None:
    with contextlib.suppress(CommandError):
        assert type(parse_json(line).command) in VERBS.values()


def test_secrets_stay_out_of_reprs_and_errors() -> None:
    assert "SECRET" not in repr(parse_text("/add SECRET name"))
    assert "SECRET" not in repr(parse_text("anna: SECRET"))
    with pytest.raises(CommandError) as caught:
        parse_text("/adde SECRET")
    assert "SECRET" not in str(caught.value)


def test_usage_is_as_it_is_written() -> None:
    assert usage("verify") == "/verify WHO TEXT"
    assert usage("history") == "/history WHO [COUNT]"
    assert {verb: usage(verb) for verb in VERBS}
