"""CDNs between client and bridge: haproxy and nginx that end TLS with certificates of their own.

A :class:`Cdn` passes everything on to the operator's web server, which ends TLS again; connections to it
are kept and shared among visitors, and whatever is silent for ``cut`` seconds is cut, both ways.
"""

from __future__ import annotations

from fronts import NAME
from live import HOST, Program, free_port, listens, start_nginx, until

HAPROXY = """
global
    maxconn 2000
defaults
    mode http
    option http-no-delay
    timeout connect 5s
    timeout client {cut}s
    timeout server {cut}s
    timeout tunnel {cut}s
    timeout http-keep-alive {cut}s
    http-reuse always
frontend edge
    bind {host}:{port} ssl crt {both} alpn h2,http/1.1
    default_backend origin
backend origin
    server origin {host}:{origin} ssl verify none sni str({name})
"""

NGINX = """
map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
upstream origin {{ server {host}:{origin}; keepalive 16; }}
server {{
    listen {host}:{port} ssl http2;
    server_name {name};
    ssl_certificate {pem};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    client_header_timeout {cut}s;
    client_body_timeout {cut}s;
    keepalive_timeout {cut}s;
    send_timeout {cut}s;
    location / {{
        proxy_pass https://origin;
        proxy_ssl_server_name on;
        proxy_ssl_name {name};
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_read_timeout {cut}s;
        proxy_send_timeout {cut}s;
        {buffering}
    }}
}}
"""


class Cdn:
    """``kind`` is haproxy, nginx, or buffering: an nginx that holds answers back until they are whole."""

    def __init__(self, kind, folder, certificate, origin, cut=3600):
        self.folder = folder
        self.port = free_port()
        self.name = f"{kind}-{cut}"
        folder.mkdir()
        values = {
            "host": HOST, "port": self.port, "origin": origin, "name": NAME, "cut": cut, "pem": certificate,
            "key": certificate.with_suffix(".key"), "both": certificate.with_suffix(".both"),
        }  # fmt: skip
        if kind == "haproxy":
            config = folder / "haproxy.cfg"
            config.write_text(HAPROXY.format(**values))
            self._program = Program(f"haproxy-{self.port}", ["haproxy", "-db", "-f", config], folder)
            until(lambda: self._program.process.poll() is not None or listens(self.port), "haproxy listens")
            assert self._program.process.poll() is None, self._program.logged()
        else:
            buffering = "proxy_buffering on;" if kind == "buffering" else "proxy_buffering off;"
            values["buffering"] = f"{buffering} proxy_ignore_headers X-Accel-Buffering;"
            self._program = start_nginx(folder, self.port, NGINX.format(**values))

    def stop(self):
        self._program.stop()


def through(link, port):
    """The link of a bridge, reached at another port: the CDN's."""
    head, _, query = link.partition("?")
    return f"{head.rpartition(':')[0]}:{port}?{query}"
