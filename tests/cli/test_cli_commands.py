"""The command line as a person uses it: what is written, what is printed, how failures read."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import re
import stat
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import ptproxy.cli.check
from ptproxy.auth.access import Access, AccessList
from ptproxy.auth.access_record import Identity
from ptproxy.auth.credentials import StaticKey, encode_key, token_id
from ptproxy.cli import main as main_module
from ptproxy.cli.main import COMMANDS, program
from ptproxy.config.keyfile import read_key
from ptproxy.config.link import Link
from ptproxy.config.load import load_bridge, load_client
from ptproxy.errors import StartError
from ptproxy.proxy.account_store import SqliteStore
from ptproxy.tunnel.certificate import pin_for, self_signed
from ptproxy.tunnel.tls import leaf_digest

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(
        program, [str(argument) for argument in arguments], input=stdin, prog_name="ptproxy"
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        traceback.print_exception(result.exception)
        pytest.fail("an exception came through")
    return result


def good(*arguments: str | Path, stdin: str | None = None) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.output


def bad(*arguments: str | Path, status: int = 2, stdin: str | None = None) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == status, result.output
    assert result.stdout == "" or stdin is not None
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def link_in(output: str) -> Link:
    return Link.parse(next(line for line in output.splitlines() if line.startswith("ptproxy://")))


@pytest.fixture
def bridge(tmp_path: Path) -> Path:
    folder = tmp_path / "bridge"
    good("init", "bridge", folder, "--address", "127.0.0.1:8443", "--no-qr")
    return folder


def make_certificate(folder: Path, *, authority: bool) -> tuple[Path, Path]:
    """A certificate for example.org, self-signed or signed by an authority."""
    now = datetime.datetime.now(datetime.UTC)
    rng = random.SystemRandom()
    pem, key_pem = self_signed("example.org", now, rng)
    if authority:
        issuer_key = ec.generate_private_key(ec.SECP256R1())
        leaf = x509.load_pem_x509_certificate(pem)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(leaf.subject)
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An Authority")]))
            .public_key(leaf.public_key())
            .serial_number(5)
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=90))
            .sign(issuer_key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "full.pem").write_bytes(pem)
    (folder / "full.key").write_bytes(key_pem)
    (folder / "full.key").chmod(0o600)
    return folder / "full.pem", folder / "full.key"


# ---- init bridge ------------------------------------------------------------------------------


def test_init_bridge_makes_a_bridge_that_checks(bridge: Path) -> None:
    config = load_bridge(bridge / "bridge.yaml")
    assert str(config.listen[0]) == "127.0.0.1:8443"
    assert (config.server_name, config.site, config.access, config.mode) == (
        "localhost",
        "builtin",
        "enrolled",
        "standalone",
    )
    assert config.codecs == ("websocket", "http", "random")
    assert re.fullmatch(r"/[a-z]+/[0-9a-f]{16}", config.path)
    assert "is fine: a standalone bridge for 127.0.0.1:8443" in good("check", bridge / "bridge.yaml")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_everything_written_is_private(bridge: Path) -> None:
    paths = list(bridge.rglob("*"))
    assert {path.name for path in paths} >= {
        "bridge.yaml",
        "bridge.key",
        "cert.pem",
        "cert.key",
        "accounts.lock",
        "accounts.sqlite3",
    }
    for path in (bridge, *paths):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_link_says_what_the_bridge_is(tmp_path: Path) -> None:
    output = good("init", "bridge", tmp_path / "b", "--address", "127.0.0.1:8443")
    link = link_in(output)
    config = load_bridge(tmp_path / "b" / "bridge.yaml")
    assert link.key == StaticKey.parse_private(read_key(config.key)).public
    assert link.pin == leaf_digest(tmp_path / "b" / "cert.pem")
    assert replace(link, token=b"") == config.link(link.key, link.pin)
    assert "▀" in output
    for word in (
        "ptproxy bridge -c",
        "ptproxy init client client -",
        "ptproxy client -c",
        "ptproxy invite new",
    ):
        assert word in output
    assert list(access_of(tmp_path / "b").invites) == [token_id(link.token)]
    for path in config.state.iterdir():
        assert link.serialize().rpartition("token=")[2].encode() not in path.read_bytes()
        assert link.token not in path.read_bytes()


def test_an_open_bridge_with_its_own_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, authority=True)
    output = good(
        "init", "bridge", tmp_path / "b", "--address", "example.org:443", "--certificate", certificate,
        "--private-key", key, "--access", "open", "--codec", "http", "--codec", "websocket", "--seal",
        "--path",
        "/x", "--site", "http://127.0.0.1:8080", "--server-name", "www.example.org", "--listen",
        "[::]:443", "--no-qr",
    )  # fmt: skip
    link = link_in(output)
    assert (link.pin, link.token, link.seal, link.codecs) == (None, b"", True, ("http", "websocket"))
    assert (link.path, link.server_name, link.host) == ("/x", "www.example.org", "example.org")
    assert "everybody" in output
    assert "invite new" not in output
    assert "▀" not in output
    config = load_bridge(tmp_path / "b" / "bridge.yaml")
    assert config.tls.certificate == certificate
    assert not (tmp_path / "b" / "cert.pem").exists()
    good("check", tmp_path / "b" / "bridge.yaml")


def test_a_bridge_behind_a_web_server(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path, authority=False)
    output = good(
        "init", "bridge", tmp_path / "b", "--address", "example.org:443", "--mode", "behind",
        "--front-certificate", certificate, "--no-qr",
    )  # fmt: skip
    link = link_in(output)
    assert link.pin == leaf_digest(certificate)
    assert link.codecs == ("websocket", "http")
    assert (link.binding, link.seal) == (True, False)
    assert "web server" in output
    good("check", tmp_path / "b" / "bridge.yaml")


def test_a_bridge_behind_a_cdn(tmp_path: Path) -> None:
    link = link_in(
        good("init", "bridge", tmp_path / "b", "--address", "example.org:443", "--mode", "behind", "--cdn")
    )
    assert (link.binding, link.seal, link.pin) == (False, True, None)
    good("check", tmp_path / "b" / "bridge.yaml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Missing option '--address'"),
        (["--address", "nonsense"], "write HOST:PORT"),
        (["--address", "192.0.2.1:443"], "--server-name example.org"),
        (["--address", "a.org:443", "--listen", "b.org:1"], "listen takes an IP address"),
        (["--address", "a.org:443", "--codec", "morse"], "'morse' is not one of"),
        (["--address", "a.org:443", "--codec", "http", "--codec", "http"], "each --codec is named once"),
        (["--address", "a.org:443", "--path", "x"], "starts with /"),
        (["--address", "a.org:443", "--site", "x"], "write builtin"),
        (["--address", "a.org:443", "--mode", "behind"], "needs --front-certificate"),
        (["--address", "a.org:443", "--mode", "behind", "--cdn", "--codec", "random"], "only HTTP"),
        (["--address", "a.org:443", "--cdn"], "for --behind and --mode behind"),
        (["--address", "a.org:443", "--certificate", "pyproject.toml"], "go together"),
        (["--address", "a.org:443", "--certificate", "/nope"], "does not exist"),
        (["--address", "a.org:443", "--colour"], "No such option"),
    ],
)
def test_wrong_options_are_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    text = bad("init", "bridge", tmp_path / "b", *options)
    assert text.startswith("ptproxy: ")
    assert message in text
    assert "--help)" in text
    assert not (tmp_path / "b").exists()


def test_nothing_is_replaced_without_force(bridge: Path) -> None:
    before = {path: path.read_bytes() for path in bridge.rglob("*") if path.is_file()}
    text = bad("init", "bridge", bridge, "--address", "127.0.0.1:8443", status=1)
    assert "exists already" in text
    assert before == {path: path.read_bytes() for path in bridge.rglob("*") if path.is_file()}
    good("init", "bridge", bridge, "--address", "127.0.0.1:8443", "--force")
    assert (bridge / "bridge.key").read_bytes() != before[bridge / "bridge.key"]


def test_self_signed_certificates_have_nothing_in_common() -> None:
    now = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
    made = [
        x509.load_pem_x509_certificate(self_signed("www.example.org", now, random.Random(seed))[0])
        for seed in range(20)
    ]
    assert len({each.serial_number for each in made}) == 20
    assert len({each.not_valid_before_utc for each in made}) == 20
    for each in made:
        days = (each.not_valid_after_utc - each.not_valid_before_utc).days
        assert 90 <= days <= 397
        assert each.not_valid_before_utc < now
        assert (each.not_valid_after_utc - now).days >= 90
        assert each.serial_number.bit_length() == 127
        names = each.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["www.example.org"]
        each.verify_directly_issued_by(each)
    for name in ("192.0.2.1", "a" * 63 + ".example.org"):
        x509.load_pem_x509_certificate(self_signed(name, now, random.Random(1))[0])


def test_only_self_signed_certificates_are_pinned(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path, authority=False)
    assert pin_for(certificate) == leaf_digest(certificate)
    certificate, _ = make_certificate(tmp_path, authority=True)
    assert pin_for(certificate) is None
    certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(StartError, match="no certificate"):
        pin_for(certificate)


# ---- init client ------------------------------------------------------------------------------


def test_init_client(bridge: Path, tmp_path: Path) -> None:
    link = link_in(good("invite", "new", bridge)).serialize()
    (tmp_path / "link").write_text(f"{link}\n")
    for number, (argument, stdin) in enumerate(
        ((link, None), ("-", f"{link}\n"), (f"@{tmp_path / 'link'}", None))
    ):
        folder = tmp_path / f"client{number}"
        output = good(
            "init",
            "client",
            folder,
            argument,
            "--listen",
            "0.0.0.0:0" if number else "127.0.0.1:5000",
            stdin=stdin,
        )
        config_file = folder / "client.yaml"
        assert "ptproxy client -c" in output
        assert "--proxy socks5h://127.0.0.1:" in output
        if number == 0:
            config = load_client(config_file)
            assert config.bridge.serialize() == link
            assert config.pin is not None
            assert config.codecs == ("websocket", "http", "random")
            assert "is fine: a client of the bridge at 127.0.0.1:8443" in good("check", config_file)
        else:
            assert "could use the proxy" in bad("check", config_file)
    keys = {(tmp_path / f"client{number}" / "client.key").read_text() for number in range(3)}
    assert len(keys) == 3


def test_init_client_refuses(bridge: Path, tmp_path: Path) -> None:
    link = link_in(good("invite", "new", bridge)).serialize()
    folder = tmp_path / "client"
    assert "LINK: a bridge link starts with" in bad("init", "client", folder, "https://example.org")
    assert "LINK: a bridge link starts with" in bad("init", "client", folder, "-", stdin="")
    assert "cannot read" in bad("init", "client", folder, f"@{tmp_path / 'none'}", status=1)
    assert "does not speak morse, only websocket, http, random" in bad(
        "init", "client", folder, link, "--codec", "morse"
    )
    assert not folder.exists()
    good("init", "client", folder, link, "--codec", "http")
    assert "exists already" in bad("init", "client", folder, link, status=1)
    assert load_client(folder / "client.yaml").codecs == ("http",)


# ---- invites ----------------------------------------------------------------------------------


def access_of(bridge: Path) -> AccessList:
    with contextlib.closing(SqliteStore(bridge / "state", Access.ENROLLED)) as store:
        return store.list


def test_invites(bridge: Path) -> None:
    output = good(
        "invite",
        "new",
        bridge,
        "--name",
        "anna",
        "--uses",
        "3",
        "--expires",
        "never",
        "--lifetime",
        "30d",
        "--no-qr",
    )
    link = link_in(output)
    invite = access_of(bridge).invites[token_id(link.token)]
    assert (invite.name, invite.uses_left, invite.expires_at, invite.lifetime) == (
        "anna",
        3,
        None,
        30 * 86400,
    )
    assert "3 clients" in output
    assert "never" in output
    listed = good("invite", "list", bridge / "bridge.yaml")
    assert re.search(rf"{invite.id[:10]} +anna +3 +never", listed)
    assert "first" in listed
    assert "no clients enrolled" in listed
    assert f"invite {invite.id[:10]} (anna) is withdrawn" in good("invite", "revoke", bridge, invite.id[:10])
    assert invite.id not in access_of(bridge).invites
    good("invite", "revoke", bridge, "first")
    assert "no open invites" in good("invite", "list", bridge)


def test_clients_are_kept_out(bridge: Path) -> None:
    access_list = access_of(bridge)
    invite = next(iter(access_list.invites))
    for number in range(3):
        access_list.enrol(
            Identity(bytes([number]) * 32, f"client {number}", 1_700_000_000, invite=invite if number else "")
        )
    with contextlib.closing(SqliteStore(bridge / "state", Access.ENROLLED)) as store:
        store.replace(access_list)
    assert re.search(r"client 0 +2023-11-14 22:13 +never", good("invite", "list", bridge))
    assert "(client 0) is kept out" in good("invite", "revoke", bridge, "client 0")
    assert access_of(bridge).identities[bytes(32)].revoked
    good("invite", "revoke", bridge, encode_key(bytes([1]) * 32)[:10])
    output = good("invite", "revoke", bridge, "first", "--clients")
    assert "(first) is withdrawn" in output
    assert "(client 2) is kept out" in output
    assert good("invite", "list", bridge).count("revoked") == 3
    assert "no invite or client matches" in bad("invite", "revoke", bridge, "client 0", status=1)


def test_a_short_id_is_not_enough(bridge: Path) -> None:
    invite = next(iter(access_of(bridge).invites))
    assert "no invite or client matches" in bad("invite", "revoke", bridge, invite[:5], status=1)
    assert "matches ''" in bad("invite", "revoke", bridge, "", status=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--uses", "0"], "0 is not in the range"),
        (["--expires", "soon"], "'soon' is no duration"),
        (["--name", ""], "--name has 1 to 64"),
        (["--name", "a\nb"], "--name has 1 to 64"),
    ],
)
def test_wrong_invites(bridge: Path, options: list[str], message: str) -> None:
    assert message in bad("invite", "new", bridge, *options)
    assert len(access_of(bridge).invites) == 1


def test_invites_of_an_open_bridge_hold_no_token(tmp_path: Path) -> None:
    good("init", "bridge", tmp_path / "b", "--address", "127.0.0.1:1", "--access", "open")
    output = good("invite", "new", tmp_path / "b")
    assert link_in(output).token == b""
    assert "everybody" in output


def test_a_damaged_access_list(bridge: Path) -> None:
    older = bridge / "state" / "access.json"
    older.write_text("{")
    for command in (("new", bridge), ("list", bridge), ("revoke", bridge, "first")):
        assert "is damaged" in bad("invite", *command, status=1)
    older.write_text('{"ptproxy": "access", "version": 1, "data": {"version": 1}}')
    older.unlink()
    path = bridge / "state" / "accounts.sqlite3"
    path.write_bytes(b"no database" * 1000)
    assert str(path) in bad("invite", "list", bridge, status=1)


def test_invites_of_what_is_no_bridge(tmp_path: Path, bridge: Path) -> None:
    assert "there is no such file" in bad("invite", "list", tmp_path)
    assert "does not exist" in bad("invite", "list", tmp_path / "none")


# ---- check ------------------------------------------------------------------------------------


def test_check_tells_everything(bridge: Path) -> None:
    path = bridge / "bridge.yaml"
    text = path.read_text()
    text = text.replace("allow: []", 'allow: ["10.0.0.1/8", "127.0.0.1"]').replace('"1-65535"', '"1-99999"')
    text = text.replace("codecs: [websocket, http, random]", "codecs: [websocket, morse]") + "lop: auto\n"
    path.write_text(text)
    (bridge / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    result = run("check", path)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 5, lines
    for line, expected in zip(
        lines,
        (
            r"tls\.certificate: .*not usable PEM",
            r"codecs: there is no codec 'morse'",
            r"egress\.allow\.0: '10\.0\.0\.1/8' has bits set behind its prefix: did you mean 10\.0\.0\.0/8\?",
            r"egress\.ports\.0: '1-99999' is no range of ports",
            r"lop: unknown key: did you mean loop\?",
        ),
        strict=True,
    ):
        assert re.match(rf"{re.escape(str(path))}:\d+: {expected}", line), line


def test_check_finds_a_key_that_is_not_the_certificates(bridge: Path) -> None:
    _, other = self_signed("localhost", datetime.datetime.now(datetime.UTC), random.SystemRandom())
    (bridge / "cert.key").write_bytes(other)
    assert "the key does not belong to the certificate" in bad("check", bridge / "bridge.yaml")


def test_a_codec_of_another_package_that_is_broken(bridge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Table(dict[str, object]):
        def __getitem__(self, name: str) -> object:
            if name == "morse":
                raise StartError("codec 'morse' of parcel cannot be loaded")
            return super().__getitem__(name)

    monkeypatch.setattr(ptproxy.cli.check, "codec_table", lambda: Table(websocket=1, morse=2))
    path = bridge / "bridge.yaml"
    path.write_text(path.read_text().replace("[websocket, http, random]", "[websocket, morse]"))
    assert "codec 'morse' of parcel cannot be loaded" in bad("check", path)


# ---- the program ------------------------------------------------------------------------------


def test_help_lists_the_commands() -> None:
    output = good("--help")
    for name in COMMANDS:
        assert f"  {name} " in output
    assert output == good("-h")


@pytest.mark.parametrize(
    "command",
    [
        "init",
        "init bridge",
        "init client",
        "bridge",
        "client",
        "check",
        "invite",
        "invite new",
        "invite list",
        "invite revoke",
        "completion",
    ],
)
def test_every_command_and_option_has_help(command: str) -> None:
    output = good(*command.split(), "--help")
    assert output.startswith(f"Usage: ptproxy {command}")
    options = output.partition("Options:\n")[2]
    assert not re.search(r"^  --[a-z-]+( [A-Z:]+| \[[^]]*\])?$\n(?=  -|\Z)", options, re.M), options


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_help_is_the_commands_own(name: str) -> None:
    command = program.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert command.help
    first = command.help.split("\n")[0].rstrip(".").split(",")[0]
    assert COMMANDS[name][1].startswith(first[:12])


def test_unknown_commands() -> None:
    assert "No such command 'brigde'" in bad("brigde")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    assert "_PTPROXY_COMPLETE" in good("completion", shell)


def test_completion_completes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PTPROXY_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "ptproxy in")
    monkeypatch.setenv("COMP_CWORD", "1")
    result = run()
    assert "plain,init" in result.output
    assert "plain,invite" in result.output


def test_an_unexpected_exception_is_one_line(bridge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug\non two lines")

    monkeypatch.setattr(ptproxy.cli.check, "load", broken)
    monkeypatch.delenv("PTPROXY_DEBUG", raising=False)
    text = bad("check", bridge / "bridge.yaml", status=1)
    assert (
        text == "ptproxy: unexpected ZeroDivisionError: a bug on two lines (ptproxy --debug … shows where)\n"
    )
    monkeypatch.setenv("PTPROXY_DEBUG", "1")
    assert "Traceback" in run("check", bridge / "bridge.yaml").stderr


def test_ctrl_c(bridge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ptproxy.cli.check, "load", interrupted)
    result = run("check", bridge / "bridge.yaml")
    assert (result.exit_code, result.output.strip()) == (130, "")


def test_debug_sets_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTPROXY_DEBUG", "")
    good("--debug", "completion", "bash")
    assert os.environ["PTPROXY_DEBUG"] == "1"


# ---- the real program -------------------------------------------------------------------------


def real(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PTPROXY_DEBUG"}
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "ptproxy", *map(str, arguments)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


def test_python_m_ptproxy() -> None:
    assert real("--version").stdout.startswith("ptproxy ")
    for arguments in ([], ["invite"]):
        nothing = real(*arguments)
        assert nothing.returncode in (0, 2)
        assert (nothing.stdout + nothing.stderr).startswith("Usage: ")


def test_a_configuration_with_errors(bridge: Path) -> None:
    path = bridge / "bridge.yaml"
    path.write_text(path.read_text().replace("access:", "acess:").replace("level: info", "level: loud"))
    result = real("bridge", "-c", path)
    assert (result.returncode, result.stdout) == (2, "")
    assert [line.partition(": ")[2].partition(":")[0] for line in result.stderr.splitlines()] == [
        "acess",
        "log.level",
    ]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_key_that_others_can_read(bridge: Path) -> None:
    (bridge / "bridge.key").chmod(0o644)
    result = real("bridge", "-c", bridge / "bridge.yaml")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert f"chmod 0600 {bridge / 'bridge.key'}" in result.stderr


def test_the_wrong_role(bridge: Path) -> None:
    result = real("client", "-c", bridge / "bridge.yaml")
    assert result.returncode == 2
    assert "run it with ptproxy bridge" in result.stderr


def test_a_reader_that_goes_away(bridge: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ptproxy", "completion", "bash"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert b"Traceback" not in errors
    assert process.wait(60) in (0, 1)


def test_main_takes_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main_module.main(["completion", "fish"])
    assert caught.value.code == 0
    assert "_PTPROXY_COMPLETE" in capsys.readouterr().out
