"""``ptproxy account`` as an operator uses it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from test_cli_commands import access_of, bad, bridge, good, link_in

from ptproxy.auth.access import Access
from ptproxy.auth.access_record import Identity
from ptproxy.auth.account import Used, month_of
from ptproxy.auth.credentials import token_id
from ptproxy.proxy.account_store import SqliteStore

__all__ = ["bridge"]
KEY = bytes([7]) * 32


def store_of(bridge: Path):
    return contextlib.closing(SqliteStore(bridge / "state", Access.ENROLLED))


def test_an_account_from_its_making_to_its_end(bridge: Path) -> None:
    output = good(
        "account", "add", bridge, "anna", "--quota", "50GiB", "--reset-day", "5", "--rate", "2MiB",
        "--devices", "2", "--expires", "30d", "--note", "paid", "--target", "*:443", "--service", "mailbox",
        "--reverse", "2222",
    )  # fmt: skip
    for text in ("anna; enabled", "50GiB a month from day 5", "2MiB/s", "2 devices", "only to *:443"):
        assert text in output
    known = access_of(bridge).accounts["anna"]
    assert (known.quota, known.rate, known.services) == (50 << 30, 2 << 20, ("mailbox",))
    link = link_in(good("account", "invite", bridge, "anna", "--no-qr"))
    invite = access_of(bridge).invites[token_id(link.token)]
    assert (invite.account, invite.uses_left) == ("anna", 1)
    with store_of(bridge) as store:
        store.update(lambda known: known.spend(known.decide(KEY, link.token, 1.0), 1.0))
        since = month_of(5, 1_900_000_000)[0]
        store.add_moved({"anna": (1 << 30, 2 << 30)}, {"anna": 5}, 1_900_000_000)
        assert store.add_moved({}, {}, 0.0) == {"anna": Used(since, 1 << 30, 2 << 30)}
    listed = good("account", "list", bridge)
    assert "anna" in listed
    assert "1/2" in listed
    assert "3GiB" in listed
    (shown,) = json.loads(good("account", "list", bridge, "--json"))
    assert shown == json.loads(good("account", "show", bridge, "anna", "--json"))
    assert (shown["state"], shown["left"], shown["used_down"]) == ("in force", 47 << 30, 2 << 30)
    assert [each["revoked"] for each in shown["clients"]] == [False]
    assert "state: in force" in good("account", "show", bridge, "anna")
    good("account", "set", bridge, "anna", "--quota", "1GiB", "--target", "any", "--service", "any")
    assert json.loads(good("account", "show", bridge, "anna", "--json"))["state"] == "quota"
    assert "disabled" in good("account", "disable", bridge, "anna")
    assert "enabled" in good("account", "enable", bridge, "anna")
    exported = json.loads(good("account", "export", bridge))
    assert exported["used"]["anna"]["up"] == 1 << 30
    assert exported["version"] == 3
    assert link.serialize().rpartition("token=")[2] not in json.dumps(exported)
    output = good("account", "remove", bridge, "anna")
    assert "is kept out" in output
    known_now = access_of(bridge)
    assert known_now.identities[KEY].revoked
    assert not known_now.accounts
    assert not known_now.used
    assert "no accounts" in good("account", "list", bridge)


def test_a_client_that_is_there_becomes_a_device(bridge: Path) -> None:
    with store_of(bridge) as store:
        store.update(lambda known: known.enrol(Identity(KEY, "otto", 1)))
    assert "is its device" in good("account", "add", bridge, "otto")
    assert "account otto: may offer services at 80" in good(
        "invite", "permit", bridge, "otto", "--reverse", "80"
    )
    assert access_of(bridge).reverse_ports("otto", 2.0) == (80,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "x", "--target", "10.0.0.1/8"], "did you mean"),
        (["add", "x", "--rate", "10"], "'rate' is a number from 1024"),
        (["add", "x", "--quota", "much"], "is no size"),
        (["add", "x", "--reset-day", "31"], "31 is not in the range"),
        (["add", "a\nb"], "a name has 1 to 64"),
        (["set", "anna"], "say what is to change"),
    ],
)
def test_wrong_usage_changes_nothing(bridge: Path, arguments: list[str], message: str) -> None:
    command, *rest = arguments
    assert message in bad("account", command, bridge, *rest)
    assert not access_of(bridge).accounts


def test_what_is_not_there(bridge: Path) -> None:
    for command in ("show", "disable", "remove", "invite"):
        assert "there is no account nobody" in bad("account", command, bridge, "nobody", status=1)
    good("account", "add", bridge, "anna")
    assert "already" in bad("account", "add", bridge, "anna", status=1)


def test_no_volume_is_not_any_volume(bridge: Path) -> None:
    """``--quota 0`` is what somebody writes who wants to give nothing."""
    for option in ("--quota", "--rate"):
        assert "disabled" in bad("account", "add", bridge, "anna", option, "0")
    good("account", "add", bridge, "anna", "--quota", "none", "--rate", "none")
    assert access_of(bridge).accounts["anna"].quota is None
