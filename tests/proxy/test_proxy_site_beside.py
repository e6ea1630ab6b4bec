"""A bridge beside a real nginx, asked all that `ptproxy inspect` asks: it answers as nginx alone does."""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from site_live import free_port

from ptproxy import state
from ptproxy.cli.main import program as ptproxy
from ptproxy.config.load import load
from ptproxy.config.quantities import SiteUrl
from ptproxy.errors import StartError
from ptproxy.inspect.battery import battery
from ptproxy.inspect.side_by_side import QUICK, compare_servers
from ptproxy.inspect.visit import Server
from ptproxy.proxy.bridge import run_bridge
from ptproxy.proxy.site_beside import SiteBeside
from ptproxy.tunnel.beside import openssl
from ptproxy.tunnel.certificate import self_signed

NAME = "camo.test"
PATH = "/secret/path"

try:
    openssl.load()
except StartError as error:
    pytest.skip(str(error), allow_module_level=True)


def certificate(folder: Path, name: str = "cert") -> tuple[Path, Path]:
    now = datetime.datetime.now(datetime.UTC)
    pem, key = self_signed(NAME, now, random.SystemRandom())
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    for path, text in zip(paths, (pem, key), strict=True):
        state.write_file(path, text)
    return paths


@contextmanager
def nginx_with_tls(folder: Path, http2: str = " http2") -> Iterator[int]:
    """A real nginx with the folder's certificate; its port."""
    port = free_port()
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi", "client_body")
    )
    root = folder / "root"
    root.mkdir(exist_ok=True)
    (root / "index.html").write_text("<html><body>A site</body></html>")
    (folder / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
        {"user root;" if os.geteuid() == 0 else ""}
        events {{ worker_connections 512; }}
        http {{ access_log off; types {{ text/html html; }} {temporary}
            server {{ listen 127.0.0.1:{port} ssl{http2}; server_name {NAME}; root {root};
                ssl_protocols TLSv1.2 TLSv1.3;
                ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/cert.key; }} }}"""
    )
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin") or "nginx"
    process = subprocess.Popen([program, "-e", folder / "start.log", "-c", folder / "nginx.conf"])
    try:
        while True:
            assert process.poll() is None, (folder / "start.log").read_text()
            try:
                __import__("socket").create_connection(("127.0.0.1", port), 1).close()
                break
            except ConnectionRefusedError:
                pass
        yield port
    finally:
        process.terminate()
        process.wait()


def configuration(folder: Path, site: str) -> Path:
    """A bridge's, made as a person makes it."""
    result = CliRunner().invoke(
        ptproxy,
        [
            "init", "bridge", str(folder / "bridge"), "--address", f"{NAME}:443", "--listen", "127.0.0.1:0",
            "--certificate", str(folder / "cert.pem"), "--private-key", str(folder / "cert.key"),
            "--site", site, "--path", PATH, "--no-qr",
        ],
        prog_name="ptproxy",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder / "bridge" / "bridge.yaml"


def check(path: Path) -> Any:
    return CliRunner().invoke(ptproxy, ["check", str(path)], prog_name="ptproxy")


async def told_apart(nginx: int, path: Path) -> dict[str, list[Any]]:
    """In what a running bridge differs from the nginx beside it, by probe."""
    ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(run_bridge(load(path, role="bridge"), ready=ready.set_result))
    try:
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        port = int(ready.result()[0].rpartition(":")[2])
        report = await compare_servers(
            Server(("127.0.0.1", nginx), NAME),
            Server(("127.0.0.1", port), NAME),
            battery(NAME, random.Random(1), path=PATH),
            QUICK,
            lambda *_: None,
        )
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return {one.probe.name: list(one.differences) for one in report.differing}


@pytest.mark.program("nginx")
def test_no_probe_tells_the_bridge_from_the_nginx_beside_it(tmp_path: Path) -> None:
    """But for one thing that hangs on the moment with nginx, too: which small frames share a TLS record."""
    certificate(tmp_path)
    with nginx_with_tls(tmp_path) as port:
        found = asyncio.run(told_apart(port, configuration(tmp_path, f"https://127.0.0.1:{port}")))
    for name, differences in found.items():
        assert name.startswith("HTTP/2"), found
        assert [one.observable for one in differences] == ["sizes"], found


@pytest.mark.program("nginx")
def test_check_tells_of_another_certificate_and_of_a_site_that_is_not_there(tmp_path: Path) -> None:
    certificate(tmp_path)
    with nginx_with_tls(tmp_path) as port:
        path = configuration(tmp_path, f"https://127.0.0.1:{port}")
        fine = check(path)
        assert fine.exit_code == 0, fine.output
        certificate(tmp_path)  # nginx keeps the old one
        other = check(path)
        assert other.exit_code == 1
        assert "another certificate than tls.certificate" in other.output
    gone = check(path)
    assert gone.exit_code == 1
    assert "does not answer: connection refused; start it first" in gone.output


@pytest.mark.program("nginx")
def test_a_site_without_http2_is_learned_as_such(tmp_path: Path) -> None:
    certificate(tmp_path)
    with nginx_with_tls(tmp_path, http2="") as port:
        manners = SiteBeside(SiteUrl("https", "127.0.0.1", port), NAME).learn()
    assert manners.protocols == ("http/1.1",)
    assert (manners.tickets, manners.ticket_lifetime, manners.chooses_suite) == (2, 300, False)


def test_a_bridge_whose_site_is_not_there_does_not_start(tmp_path: Path) -> None:
    certificate(tmp_path)
    path = configuration(tmp_path, f"https://127.0.0.1:{free_port()}")
    with pytest.raises(StartError, match="does not answer"):
        asyncio.run(told_apart(1, path))
