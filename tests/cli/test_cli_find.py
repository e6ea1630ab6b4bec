"""``ptproxy invite`` in an operator's folder and ``ptproxy dht``: what they say, write and refuse."""

from __future__ import annotations

import random
import re

from test_cli_commands import good, run

from ptproxy.auth.credentials import encode_key as encoded
from ptproxy.dht.invite import Invite

HOST = "127.0.0.1"


def invite_of(said):
    return re.search(r"ptproxy-invite:\S+", said)[0]


def test_commands_for_people(tmp_path):
    """What the commands say without a network: usage, lists, refusals."""
    operator = tmp_path / "operator"
    link = f"ptproxy://{encoded(random.Random(1).randbytes(32))}@{HOST}:443?codecs=websocket"
    other = f"ptproxy://{encoded(random.Random(2).randbytes(32))}@{HOST}:444?codecs=websocket"
    good("invite", "init", operator, "-", stdin=link)
    assert run("invite", "init", operator, link).exit_code == 1
    assert "no bucket yet" in run("invite", "new", operator).stderr
    assert "LINK" in run("invite", "bucket", operator, "friends", "nonsense").stderr
    assert "one to 3" in run("invite", "bucket", operator, "friends", link, link).stderr
    good("invite", "bucket", operator, "friends", link)
    text = invite_of(good("invite", "new", operator, "--name", "anna"))
    assert [bridge.serialize() for bridge in Invite.parse(text).bridges] == [link]
    good("invite", "bucket", operator, "club", other)
    assert "--bucket" in run("invite", "new", operator).stderr
    listed = good("invite", "list", operator)
    assert "anna" in listed
    assert "not yet" in listed
    assert "no invite matches" in run("invite", "revoke", operator, "nobody").stderr
    assert "no bridge" in good("invite", "revoke", operator, "anna")
    assert "revoked" in good("invite", "list", operator)
    for path in operator.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    good("init", "client", tmp_path / "client", "-", stdin=text)
    assert (tmp_path / "client" / "client.invite").stat().st_mode & 0o077 == 0
    assert f"{HOST}:443" in good("dht", "show", tmp_path / "client")
    good("check", tmp_path / "client" / "client.yaml")
    damaged = text[:-9] + ("A" if text[-9] != "A" else "B") + text[-8:]
    for command in (("dht", "find", "-"), ("init", "client", tmp_path / "other", "-")):
        refused = run(*command, stdin=damaged)
        assert refused.exit_code == 2
        assert "damaged" in refused.stderr
        assert text[20:60] not in refused.stderr
