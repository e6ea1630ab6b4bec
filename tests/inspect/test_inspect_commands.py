"""``ptproxy inspect``: tables for people, JSON for scripts, 0 alike, 1 not, 2 not looked at."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from capture_bytes import flow, pcap, tls13
from click.testing import CliRunner, Result
from free_ports import free_port
from inspect_servers import NAME, nginx_pair

from ptproxy.cli.main import program


def run(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(program, ["inspect", *map(str, arguments)], prog_name="ptproxy")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result


def test_help_names_every_command_and_the_exit_status() -> None:
    told = run("--help").output
    assert all(name in told for name in ("probes", "hello", "capture", "record", "Exit status"))
    assert "your own" in " ".join(run("probes", "--help").output.split())
    assert "tcpdump" in run("capture", "--help").output


@pytest.mark.program("nginx")
def test_probes_tell_alike_from_unlike(tmp_path: Path) -> None:
    with nginx_pair(tmp_path, "server_tokens off;") as (first, second):
        base = ["probes", "--name", NAME, "--quick", "--only", "HTTP: GET of a"]
        pair = ["--reference", f"127.0.0.1:{first}", "--bridge", f"127.0.0.1:{first}"]
        told = run(*base, *pair, "--list").output
        assert f"No probe tells 127.0.0.1:{first} from 127.0.0.1:{first}." in told
        assert "HTTP: GET of a dot file: equal" in told
        pair[-1] = f"127.0.0.1:{second}"
        told = run(*base, *pair, status=1).output
        assert "HTTP: GET of a dot file" in told
        assert "        reference  Server: nginx/" in told
        assert "        bridge     Server: nginx\n" in told
        found = json.loads(run(*base, *pair, "--json", status=1).stdout)
        assert found["differing"] == len([one for one in found["results"] if one["differences"]]) > 0
        assert found["results"][0]["reference"]["handshake"].startswith("TLSv1.3")


def test_what_cannot_be_probed_leaves_with_2(tmp_path: Path) -> None:
    here = f"127.0.0.1:{free_port()}"
    pair = ["--reference", here, "--bridge", here]
    assert "--name says which" in run("probes", *pair, status=2).stderr
    assert "cannot be reached" in run("probes", *pair, "--name", "x.test", "--only", "SSH", status=2).stderr
    assert "no probe's name" in run("probes", *pair, "--name", "x.test", "--only", "zzz", status=2).stderr
    (tmp_path / "empty").touch()
    told = run("probes", *pair, "--name", "x.test", "--replay", tmp_path / "empty", status=2).stderr
    assert "an opening has" in told


def test_hello_of_python_is_no_browsers() -> None:
    told = run("hello", "--fingerprint", "python", status=1).output
    assert told.count("JA4") == 3
    assert "supported_versions" not in told
    found = json.loads(run("hello", "--fingerprint", "python", "--json", status=1).stdout)
    assert found["hellos"][0]["differences"]
    assert found["hellos"][0]["ja4"].startswith("t13d")


def test_hello_of_firefox_is_firefoxs() -> None:
    pytest.importorskip("curl_cffi", exc_type=ImportError)
    told = run("hello", "--fingerprint", "firefox", "--name", "www.example.org").output
    assert "equals  firefox" in told
    assert "unlike" not in told


def test_hello_wants_one_source() -> None:
    assert "one of" in run("hello", status=2).stderr
    assert "one of" in run("hello", "--fingerprint", "chrome", "--listen", "127.0.0.1:0", status=2).stderr
    assert "--listen" in run("hello", "--fingerprint", "opera", status=2).stderr


def test_hello_reads_the_client_s_configuration(tmp_path: Path) -> None:
    link = f"ptproxy://{'A' * 42}E@192.0.2.1:443?name=front.example&codecs=websocket"
    made = CliRunner().invoke(program, ["init", "client", str(tmp_path / "c"), "-"], input=link)
    assert made.exit_code == 0, made.output
    result = CliRunner().invoke(
        program, ["inspect", "hello", "-c", str(tmp_path / "c" / "client.yaml"), "--json"]
    )
    assert json.loads(result.stdout)["name"] == "front.example"


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    # A shell may have had its children ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code += "; from ptproxy.cli.main import main; main()"
    command = [sys.executable, "-c", code, "inspect", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


@pytest.mark.program("curl")
def test_hello_listens_for_other_programs() -> None:
    process = started("hello", "--listen", "127.0.0.1:0", "--count", "1")
    assert process.stdout is not None
    where = process.stdout.readline().split()[-1]
    subprocess.run(["curl", "-sk", where], check=True, stdout=subprocess.DEVNULL)
    told, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "JA4     t13" in told
    assert "unlike" in told


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as SIGINT")
def test_record_keeps_what_came_when_interrupted(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        path = tmp_path / "some.pcap"
        process = started("record", path, "--to", f"127.0.0.1:{port}", "--listen", "127.0.0.1:0")
        assert process.stderr is not None
        host, _, relay = process.stderr.readline().split()[-1].rpartition(":")
        with socket.create_connection((host, int(relay)), 10) as client:
            client.sendall(b"\x16\3\1\0\2ab")
            far, _ = server.accept()
            with far:
                assert far.recv(7) == b"\x16\3\1\0\2ab"
                far.sendall(b"\x15\3\1\0\2\2\x28")
                assert client.recv(7) == b"\x15\3\1\0\2\2\x28"
                process.send_signal(signal.SIGINT)
                told, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "holds 1 connections" in told
    found = json.loads(run("capture", path, "--port", port, "--json", status=0).stdout)
    assert found["capture"]["flows"][0]["records"] == [2, -2]


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent as SIGINT")
def test_probes_are_interrupted_cleanly() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        here = f"127.0.0.1:{server.getsockname()[1]}"
        process = started("probes", "--reference", here, "--bridge", here, "--name", NAME)
        server.accept()[0].close()
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in out + err


def test_capture_tells_a_strange_hello(tmp_path: Path) -> None:
    path = tmp_path / "some.pcap"
    path.write_bytes(pcap(flow(tls13([(1, 100), (-1, 900), (1, 60)]))))
    told = run("capture", path, status=1).output
    assert "127.0.0.1:40000  127.0.0.1:443" in told
    assert "blocks 0 of 1 flows" in told
    assert "nested handshakes: no cover was given" in told
    assert "which a recorded browser never shows" in told
    told = run("capture", path, "--cover", path, status=0).output
    assert "nested-handshake scores need 20" in told
    assert "Nothing here tells it from the cover." in told


def test_capture_of_nothing_leaves_with_2(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no capture")
    assert "neither a pcap" in run("capture", tmp_path / "x", status=2).stderr
