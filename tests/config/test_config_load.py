"""Files into models: what is right loads, what is wrong is told all at once, with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from config_files import BEHIND, CLIENT, KEY, LINK, STANDALONE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptproxy.config.load import _STAND_INS, load, load_bridge, load_client
from ptproxy.config.model import BridgeConfig, ClientConfig
from ptproxy.config.quantities import Endpoint
from ptproxy.errors import ConfigError

Problems = Callable[[str], list[str]]


def test_a_bridge(folder: Path) -> None:
    path = folder / "bridge.yaml"
    path.write_text(
        STANDALONE
        + "limits: {memory: 1GiB, linger: 2m}\negress: {allow: 127.0.0.1:80, ports: [80, 443]}\nlog:\n"
    )
    config = load_bridge(path)
    assert config.listen == (Endpoint("0.0.0.0", 443),)
    assert config.address == Endpoint("example.org", 443)
    assert config.key == folder / "key"
    assert config.tls.certificate == folder / "cert.pem"
    assert config.limits.memory == 1 << 30
    assert config.limits.linger == 120.0
    assert config.egress.allow == ("127.0.0.1:80",)
    assert config.egress.ports == ("80", "443")
    assert config.codecs == ("websocket", "http", "random")
    assert config.server_name == "example.org"
    assert config.log.addresses == "scrubbed"
    link = config.link(bytes(32), bytes(32), bytes(16))
    assert (link.host, link.port, link.server_name, link.seal, link.binding) == (
        "example.org",
        443,
        "example.org",
        False,
        True,
    )


def test_a_bridge_behind(folder: Path) -> None:
    path = folder / "bridge.yaml"
    path.write_text(
        BEHIND.replace("front_certificate: cert.pem", "binding: none") + "seal: yes\nkeepalive: 10s\n"
    )
    config = load_bridge(path)
    assert config.listen[0].unix == folder / "bridge.sock"
    assert config.keepalive == 10.0
    assert config.seal
    assert not config.link(bytes(32), None).binding


def test_a_client(folder: Path) -> None:
    path = folder / "client.yaml"
    path.write_text(
        CLIENT + "codec: http\ntls: {trust: cert.pem}\nfront: {user: a, password_file: password}\n"
    )
    config = load_client(path)
    assert config.codecs == ("http",)
    assert config.bridge.host == "example.org"
    assert config.authorities == folder / "cert.pem"
    assert config.pin is None
    path.write_text(CLIENT.replace("&codecs", f"&cert={KEY}&codecs"))
    config = load_client(path)
    assert config.codecs == ("websocket", "http")
    assert config.pin == bytes(32)
    assert config.authorities is None


def test_a_byte_order_mark_is_no_error(folder: Path) -> None:
    path = folder / "client.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + CLIENT.encode())
    assert isinstance(load(path), ClientConfig)


def test_everything_is_told_at_once(problems: Problems) -> None:
    text = """\
role: bridge
listen: example.org:443
mode: stand-alone
adress: example.org:443
key: nokey
codecs: [websocket, htp]
seal: maybe
server_name: foo
limits: {memory: 3 apples, streams: 0, carriers: many, linger: 5 min}
egress:
  connect-timeout: 10
log: verbose
tls:
  client_ca: nope.pem
  client_certificates: off
carriers: 4
loop:
"""
    found = problems(text)
    for expected in (
        "1: address: is missing: write address: example.org:443",
        "1: state: is missing: write state: state",
        "2: listen: 'example.org:443': listen takes an IP address",
        "3: mode: 'stand-alone' is not possible: write standalone or behind (did you mean standalone?)",
        "4: adress: unknown key: did you mean address?",
        "5: key: there is no file",
        "6: codecs: there is no codec 'htp'; known are websocket, http, random",
        "7: seal: 'maybe' is neither true nor false",
        "8: server_name: unknown key here: it belongs at tls.server_name",
        "9: limits.memory: '3 apples' is no size",
        "9: limits.streams: 0 is too small: at least 1",
        "9: limits.carriers: 'many' is no whole number",
        "11: egress.connect-timeout: unknown key: did you mean connect_timeout?",
        "12: log: expected a section",
        "14: tls.client_ca: has no effect with client_certificates: off",
        "14: tls.client_ca: there is no file",
        "16: carriers: unknown key here: it belongs at limits.carriers",
        "17: loop: has no value",
    ):
        assert any(problem.startswith(expected) for problem in found), (expected, found)
    assert len(found) == 18, found
    assert [int(problem.partition(":")[0]) for problem in found] == sorted(
        int(problem.partition(":")[0]) for problem in found
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listen: 127.0.0.1:1\n", "1: role: is missing: write role: bridge or role: client"),
        ("role: clint\n", "1: role: there is no role 'clint'"),
        (CLIENT + "site: builtin\n", "6: site: unknown key: only a bridge has it"),
        (CLIENT + "zzz: 1\n", "6: zzz: unknown key: known here are role, listen, bridge"),
        (CLIENT + "carriers: 65\n", "6: carriers: 65 is too large: at most 64"),
        (CLIENT + "front: {user: ''}\n", "6: front.user: "),
        (CLIENT + "tls: {trust: nope.pem}\n", "6: tls.trust: there is no file"),
        (CLIENT.replace(KEY, "x"), "3: bridge: the bridge key in the link is not 43 characters"),
        (CLIENT + "listen: 127.0.0.1:2\n", "6: listen: stands twice (first on line 2)"),
        (
            CLIENT + "log: {level: warn}\n",
            "6: log.level: 'warn' is not possible: write debug, info, warning or error (did you mean w",
        ),
        (CLIENT.replace("state: state", "state: 5"), "5: state: expected a file name"),
        (
            CLIENT.replace("127.0.0.1:1080", "[127.0.0.1:1, 127.0.0.1:1]"),
            "2: listen: 127.0.0.1:1 stands twice",
        ),
        (CLIENT.replace("127.0.0.1:1080", "[]"), "2: listen: expected at least one address"),
        (CLIENT + "codec: []\n", "6: codec: at least one codec"),
        (CLIENT + "codec: 5\n", "6: codec: expected a codec's name"),
        (STANDALONE + "egress: {ports: true}\n", "11: egress.ports: expected text or a list of texts"),
        (STANDALONE + "path: nope\n", "11: path: 'nope' cannot be the path"),
    ],
)
def test_single_problems(problems: Problems, text: str, expected: str) -> None:
    found = problems(text)
    assert any(problem.startswith(expected) for problem in found), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STANDALONE.replace("site: builtin\n", ""), "site: mode: standalone must show strangers a web site"),
        (
            STANDALONE.replace("  certificate: cert.pem\n", ""),
            "tls.certificate: mode: standalone terminates TLS",
        ),
        (
            STANDALONE.replace("  private_key: cert.key\n", ""),
            "tls.private_key: mode: standalone terminates TLS",
        ),
        (
            STANDALONE + "  front_certificate: cert.pem\n",
            "tls.front_certificate: is the certificate of a web server",
        ),
        (STANDALONE.replace("0.0.0.0:443", "unix:x"), "listen: unix:"),
        (
            STANDALONE + "  client_certificates: required\n",
            "tls.client_ca: client_certificates: required needs",
        ),
        (STANDALONE + "  client_ca: cert.pem\n", "tls.client_ca: has no effect"),
        (STANDALONE + "  binding: none\n", "tls.binding: none leaves nothing"),
        (
            STANDALONE.replace("example.org:443", "192.0.2.1:443"),
            "tls.server_name: address 192.0.2.1:443 is an IP",
        ),
        (STANDALONE.replace("tls:", "keepalive: 10s\ntls:"), "keepalive: is for what stands in front"),
        (BEHIND.replace("path:", "keepalive: 9s\npath:"), "keepalive: no codec is that chatty"),
        (BEHIND.replace("path:", "site: builtin\npath:"), "site: with mode: behind strangers see"),
        (STANDALONE + "mailbox: {box_size: 100KiB}\n", "mailbox.box_size: a quarter of it must hold"),
        (STANDALONE + "mailbox: {daily: 1KiB}\n", "mailbox.daily: a quarter of it must hold"),
        (STANDALONE + "mailbox: {size: 8MiB}\n", "mailbox.box_size: one box cannot hold more than all"),
        (STANDALONE + "mailbox: {keep: 5h}\n", "mailbox.keep: is counted in whole days"),
        (STANDALONE + "mailbox: {away: 5h}\n", "mailbox.away: is counted in whole days"),
        *(
            (BEHIND.replace("unix:bridge.sock", listen), "listen: with mode: behind only the web server")
            for listen in (
                "0.0.0.0:9443",
                "'[::]:9443'",
                "192.0.2.1:9443",
                "[127.0.0.1:1, '[2001:db8::1]:1']",
            )
        ),
        (
            BEHIND.replace("[websocket, http]", "[websocket, random]"),
            "codecs: a web server in front passes only HTTP",
        ),
        (BEHIND.replace("path: /x\n", ""), "path: with mode: behind"),
        (BEHIND + "  certificate: cert.pem\n", "tls.certificate: with mode: behind the web server"),
        (
            BEHIND.replace("front_certificate: cert.pem", "server_name: a"),
            "tls.front_certificate: openings are bound",
        ),
        (
            BEHIND + "  client_certificates: required\n  client_ca: cert.pem\n",
            "tls.client_certificates: with mode: behind",
        ),
        (
            BEHIND.replace("front_certificate", "front_certificate_previous")
            + "  binding: none\nseal: true\n",
            "tls.front_certificate_previous: needs front_certificate",
        ),
        (
            CLIENT + "codec: random\n",
            "codec: the bridge does not speak random; its link names websocket, http",
        ),
        (CLIENT + "tls: {trust: pin}\n", "tls.trust: the link pins no certificate"),
        (
            CLIENT + "tls: {client_key: cert.key}\n",
            "tls.client_certificate: client_key needs client_certificate",
        ),
        (CLIENT + "front: {user: a}\n", "front.password_file: user needs password_file"),
        (CLIENT.replace("127.0.0.1:1080", "0.0.0.0:1080"), "listen: whoever reaches 0.0.0.0:1080"),
        (CLIENT.replace("127.0.0.1:1080", "unix:x"), "listen: unix:"),
    ],
)
def test_what_does_not_fit_together(problems: Problems, text: str, expected: str) -> None:
    found = problems(text)
    assert len(found) == 1, found
    assert re.fullmatch(rf"\d+: {re.escape(expected)}.*", found[0]), found


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "'[::1]:1'", "localhost:1", "unix:/x/y"])
def test_a_bridge_behind_listens_on_this_machine_only(problems: Problems, listen: str) -> None:
    assert problems(BEHIND.replace("unix:bridge.sock", listen)) == []


@pytest.mark.parametrize("text", [STANDALONE, BEHIND, CLIENT])
def test_the_examples_of_this_test_are_right(problems: Problems, text: str) -> None:
    assert problems(text) == []


def test_a_wrong_field_does_not_hide_what_is_wrong_between_others(problems: Problems) -> None:
    text = BEHIND.replace("path: /x\n", "").replace("address: example.org:443", "address: nonsense")
    assert [problem.split(":")[1].strip() for problem in problems(f"{text}  junk: 1\n")] == [
        "path",
        "address",
        "tls.junk",
    ]


def test_a_wrong_field_brings_no_false_advice(problems: Problems) -> None:
    assert len(problems(STANDALONE.replace("site: builtin", "site: nonsense"))) == 1
    assert len(problems(STANDALONE.replace("  certificate: cert.pem", "  certificate: 5"))) == 1


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(
    ("name", "mode", "content", "expected"),
    [
        ("key", 0o644, KEY, "key: others can read or change .*mode 0644.*: chmod 0600 "),
        ("key", 0o600, "", "key: .* is empty; ptproxy init makes a key"),
        ("key", 0o600, "x", "key: .* holds no key: expected one line of 43"),
        ("key", 0o600, "A" * 42 + "ä", "key: .* is not the text file"),
        ("key", 0o600, "A" * 70000, "key: .* is not the text file"),
        ("cert.key", 0o604, None, "tls.private_key: others can read"),
        ("cert.key", 0o600, "x", "tls.private_key: .* holds no private key"),
        ("cert.key", 0o600, "-----BEGIN ENCRYPTED PRIVATE KEY-----", "tls.private_key: .* is encrypted"),
        ("cert.pem", 0o644, "x", "tls.certificate: .* holds no certificate"),
    ],
)
def test_files_that_cannot_be_used(
    problems: Problems, folder: Path, name: str, mode: int, content: str | None, expected: str
) -> None:
    path = folder / name
    if content is not None:
        path.write_text(content)
    os.chmod(path, mode)
    found = problems(STANDALONE)
    assert len(found) == 1, found
    assert re.match(rf"\d+: {expected}", found[0]), found
    assert KEY not in found[0]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_tls_key_may_be_readable_by_its_group(problems: Problems, folder: Path) -> None:
    os.chmod(folder / "cert.key", 0o640)
    assert problems(STANDALONE) == []


def test_a_folder_is_no_file(problems: Problems, folder: Path) -> None:
    (folder / "key").unlink()
    (folder / "key").mkdir()
    assert "is a folder" in problems(CLIENT)[0]


def test_passwords(problems: Problems, folder: Path) -> None:
    text = CLIENT + "front: {user: a, password_file: password}\n"
    assert problems(text) == []
    (folder / "password").write_text("pässwörd\nsecond line", "utf-8")
    assert problems(text) == []
    for bad in ("\nsecond line", "x" * 256):
        (folder / "password").write_text(bad)
        assert "password" in problems(text)[0]
        assert "xxx" not in problems(text)[0]


def test_the_role_that_was_asked_for(folder: Path) -> None:
    path = folder / "c.yaml"
    path.write_text(CLIENT)
    with pytest.raises(ConfigError, match="this is a client's configuration: run it with ptproxy client"):
        load_bridge(path)


def test_files_that_are_no_configuration(folder: Path) -> None:
    for path, message in (
        (folder / "none.yaml", "there is no such file"),
        (folder, "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(path)
    (folder / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(folder / "c.yaml")


def test_links_do_not_stand_in_messages(problems: Problems) -> None:
    token = "B" * 21 + "A"
    found = problems(CLIENT.replace("&codecs", f"&token={token}x&codecs"))
    assert found
    assert all(token not in problem and KEY not in problem for problem in found)


def test_stand_ins_are_valid(folder: Path) -> None:
    required = {
        name
        for model in (BridgeConfig, ClientConfig)
        for name, field in model.model_fields.items()
        if field.is_required() and name != "role"
    }
    assert required == set(_STAND_INS)
    assert LINK.startswith("ptproxy://")
    for model in (BridgeConfig, ClientConfig):
        data = {name: value for name, value in _STAND_INS.items() if name in model.model_fields}
        role = "bridge" if model is BridgeConfig else "client"
        model.model_validate({"role": role, **data}, context={"folder": folder})


keys = st.sampled_from([*BridgeConfig.model_fields, *ClientConfig.model_fields, "x"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["bridge", "client", "off", "a:1", "/x", "10s", "key"])
)
values = st.recursive(
    scalars | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.dictionaries(keys, values, max_size=8))
def test_any_content_gives_a_model_or_problems(folder: Path, data: dict[str, object]) -> None:
    import yaml

    path = folder / "any.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
    try:
        load(path, codecs=("websocket",))
        return
    except ConfigError as error:
        found = error.problems
    assert found
    assert all(re.match(rf"{re.escape(str(path))}:\d+: ", problem) for problem in found)
