"""Real web servers in front of a bridge: nginx, caddy and haproxy, each with a site and what ``init`` wrote.

A :class:`Front` is one web server with TLS on a port of its own; without a bridge's files it is the same
site alone. Each shows ``/`` and a page of its own for what is not there; haproxy passes its visitors to an
nginx of its own.
"""

from __future__ import annotations

import os
import random
import re
import socket
import ssl
import subprocess
import time

from live import ENVIRONMENT, HOST, PATIENCE, Bridge, Program, free_port, listens, start_nginx, until

from ptproxy.auth.binding import Binding
from ptproxy.auth.credentials import StaticKey
from ptproxy.auth.opening import ClientOpening
from ptproxy.auth.payload import Hello
from ptproxy.codec import codec_table
from ptproxy.codec.interface import CodecSettings
from ptproxy.config.link import Link
from ptproxy.tunnel.tls import leaf_digest

SERVERS = ("nginx", "caddy", "haproxy")
NAME = "localhost"

NGINX = """
{http}
server {{
    listen {host}:{port} ssl http2;
    server_name {name};
    ssl_certificate {pem};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    add_header Strict-Transport-Security max-age=63072000 always;
    {settings}
    {site}
    root {folder}/site;
    {style}
}}
"""

CADDY = """
{{
	admin off
	auto_https off
	default_sni {name}
	servers {{
		protocols h1 h2
	}}
}}
{http}
https://{name}:{port} {{
	bind {host}
	tls {pem} {key}
	header Strict-Transport-Security max-age=63072000
	{site}
	root * {folder}/site
	{style}
}}
"""

HAPROXY = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {settings}
frontend site
    bind {host}:{port} ssl crt {both} alpn h2,http/1.1
{site}
    http-response set-header Strict-Transport-Security max-age=63072000
    default_backend site
backend site
    server site {host}:{behind}
"""

PLAIN_SITE = """
server {{
    listen {host}:{port};
    root {folder}/site;
    error_page 404 /missing.html;
}}
"""


STYLES = {
    "files": {
        "nginx": "error_page 404 /missing.html;",
        "caddy": "file_server\n\thandle_errors {\n\t\trewrite * /missing.html\n\t\tfile_server\n\t}",
    },
    "application": {
        "nginx": "location / { try_files $uri /index.html; }",
        "caddy": "try_files {path} /index.html\n\tfile_server",
    },
    "handled": {
        "nginx": "error_page 404 = @app; location @app { return 410 gone; }",
        "caddy": "handle /files/* {\n\t\tfile_server\n\t}\n\thandle {\n\t\trespond gone 410\n\t}",
    },
}
"""What a site does with paths that it does not know: its own page, its application's, anything."""


def make_certificate(folder, name="cert"):
    """A certificate for ``localhost`` that signs itself: ``name.pem``, ``.key``, and both in ``.both``."""
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-days", "30",
         "-keyout", key, "-out", pem],
        env=ENVIRONMENT, check=True, capture_output=True,
    )  # fmt: skip
    (folder / f"{name}.both").write_bytes(pem.read_bytes() + key.read_bytes())
    return pem


def make_site(folder):
    site = folder / "site"
    site.mkdir(exist_ok=True)
    for name, text in (("index.html", "<h1>A site</h1>\n"), ("missing.html", "<h1>Not here</h1>\n")):
        (site / name).write_text(text)
        os.utime(site / name, (1_700_000_000, 1_700_000_000))  # the same ETag wherever it is served


class Front:
    """One web server; ``files`` are what ``init`` wrote (by name), none for the site alone."""

    def __init__(
        self, kind, folder, certificate, files=None, *, port=None, behind=None, settings="", style="files"
    ):
        self.kind = kind
        self.folder = folder
        self.port = port or free_port()
        self._behind = behind or free_port()
        self._files = files or {}
        self._certificate = certificate
        self._settings = settings
        self._style = style
        self._programs = []

    def start(self):
        self.folder.mkdir(exist_ok=True)
        make_site(self.folder)
        for name, text in self._files.items():
            (self.folder / name).write_text(text)
        getattr(self, f"_start_{self.kind}")()
        return self

    def stop(self):
        while self._programs:
            self._programs.pop().stop()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _fill(self, text, **values):
        return text.format(
            host=HOST, port=self.port, folder=self.folder, name=NAME, pem=self._certificate,
            key=self._certificate.with_suffix(".key"), both=self._certificate.with_suffix(".both"),
            settings=self._settings, style=STYLES[self._style].get(self.kind), **values,
        )  # fmt: skip

    def _start_nginx(self):
        site = "include nginx-site.conf;" if self._files else ""
        http = "include nginx-http.conf;" if self._files else ""
        self._programs.append(start_nginx(self.folder, self.port, self._fill(NGINX, http=http, site=site)))

    def _start_caddy(self):
        config = self.folder / "Caddyfile"
        http = "import ptproxy.caddy" if self._files else ""
        text = self._fill(CADDY, http=http, site="import ptproxy" if self._files else "")
        if self._style == "handled":  # as the file tells the operator of such a site
            head, mark, rest = text.partition("\timport ptproxy\n")
            text = f"{head}\troute {{\n{mark}{rest.rstrip()}\n}}\n" if mark else text
        config.write_text(text)
        home = {"XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        argv = ["caddy", "run", "--adapter", "caddyfile", "--config", config]
        self._run(Program(f"caddy-{self.port}", argv, self.folder, env=home))

    def _start_haproxy(self):
        behind = self._behind
        site = PLAIN_SITE.format(host=HOST, port=behind, folder=self.folder)
        self._programs.append(start_nginx(self.folder, behind, site))
        config = self.folder / "haproxy.cfg"
        config.write_text(
            self._fill(HAPROXY, site=self._files.get("haproxy-frontend.cfg", ""), behind=behind)
        )
        argv = ["haproxy", "-db", "-f", config]
        if self._files:
            argv += ["-f", self.folder / "haproxy-backend.cfg"]
        self._run(Program(f"haproxy-{self.port}", argv, self.folder))

    def _run(self, program):
        self._programs.append(program)
        until(lambda: program.process.poll() is not None or listens(self.port), f"{program.name} listens")
        assert program.process.poll() is None, program.logged()


class Fronted:
    """A web server, the same without a bridge (``reference``), and a bridge behind the first."""

    def __init__(self, kind, folder, *options, style="files"):
        self.folder = folder
        certificate = make_certificate(folder)
        port, behind = free_port(), free_port()
        site = ("--site", f"http://{HOST}:{behind}") if kind == "haproxy" else ()
        self.bridge = Bridge(
            folder / "bridge", "--behind", kind, "--front-certificate", certificate, *site, *options,
            address=f"{HOST}:{port}", listen=f"unix:{folder}/bridge.sock", limits__drain="1s",
        )  # fmt: skip
        files = {
            path.name: path.read_text()
            for path in (folder / "bridge").iterdir()
            if path.suffix in (".conf", ".caddy", ".cfg")
        }
        self.path = re.search(r"path=([^&]+)", self.bridge.link)[1]
        self.front = Front(kind, folder / "front", certificate, files, port=port, behind=behind, style=style)
        self.reference = Front(kind, folder / "reference", certificate, style=style)

    @property
    def port(self):
        return self.front.port

    def opening(self, codec):
        """The bytes of a request that opens a carrier, as a client would send it now."""
        line, rng = Link.parse(self.bridge.link), random.SystemRandom()
        digest = leaf_digest(self.folder / "cert.pem")
        message = ClientOpening(
            line.key, StaticKey.generate(rng), codec, line.seal, Binding.certificate(digest),
            Hello(b"", 1, (), int(time.time()), line.token), rng,
        ).message1  # fmt: skip
        settings = CodecSettings.of(line.server_name, line.port, line.path)
        return b"".join(codec_table()[codec].client(settings, message, rng).open_link().data_to_send())

    def __enter__(self):
        self.bridge.start()
        self.front.start()
        self.reference.start()
        return self

    def __exit__(self, *_):
        self.reference.stop()
        self.front.stop()
        self.bridge.stop()


def exchange(port, *requests):
    """The last of a web server's answers to one request after the other, bytes, on one connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    answer = b""
    with (
        socket.create_connection((HOST, port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as sock,
    ):
        for request in requests:
            sock.sendall(request)
            answer = read_answer(sock, body=not request.startswith(b"HEAD "))
    return answer


def read_answer(sock, *, body=True):
    """One whole answer: its head, and where there is one its body, by Content-Length or up to the end."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return bytes(data)
        data += more
    head, _, content = bytes(data).partition(b"\r\n\r\n")
    if not body or re.match(rb"HTTP/1.1 (1|204|304)", head):
        return bytes(data)
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while length is None or len(content) < int(length[1]):
        more = sock.recv(65536)
        if not more:
            break
        content += more
    return head + b"\r\n\r\n" + content


def masked(answer):
    """An answer without what differs from one moment to the next: the Date."""
    return re.sub(rb"(?i)\r\n(date): [^\r]*", rb"\r\n\1: now", answer)
