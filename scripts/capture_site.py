"""The site that the capture server serves: pages made so that a browser asks for one of everything."""

from __future__ import annotations

import base64
import hashlib

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CALLS = """<script>
addEventListener("load", () => setTimeout(async () => {
  await (await fetch("/api/items")).text();
  await fetch("/api/send", {method: "POST", body: new Uint8Array(700),
    headers: {"content-type": "application/octet-stream"}});
  await fetch("/api/json", {method: "POST", body: JSON.stringify({a: 1}),
    headers: {"content-type": "application/json"}});
  await fetch("/api/large", {method: "POST", body: new Uint8Array(100000),
    headers: {"content-type": "application/octet-stream"}});
  WS
}, 300));
</script>"""
SOCKET = 'new WebSocket("wss://" + location.host + "/ws/chat");'

SIMPLE = f"""<!doctype html><html><head><meta charset="utf-8"><title>Simple</title>
<link rel="stylesheet" href="/s/a.css"><script src="/s/a.js"></script></head>
<body><h1>Simple</h1><img src="/s/1.png"><img src="/s/2.png"><p>text</p>{CALLS}</body></html>"""

RICH = """<!doctype html><html><head><meta charset="utf-8"><title>Rich</title>
<link rel="icon" href="/r/icon.png">
<link rel="stylesheet" href="/r/first.css">
<link rel="stylesheet" href="/r/print.css" media="print">
<link rel="preload" as="font" type="font/woff2" href="/r/preload.woff2" crossorigin>
<link rel="preload" as="image" href="/r/preload.png">
<link rel="preload" as="script" href="/r/preload.js">
<link rel="modulepreload" href="/r/modulepreload.js">
<link rel="prefetch" href="/r/prefetch.js">
<link rel="manifest" href="/r/app.webmanifest">
<script src="/r/head.js"></script>
<script src="/r/defer.js" defer></script>
<script src="/r/async.js" async></script>
<script src="/r/module.js" type="module"></script>
<link rel="stylesheet" href="/r/second.css">
</head><body>
<img src="/r/high.png" fetchpriority="high"><img src="/r/low.png" fetchpriority="low">
<img src="/r/1.png"><img src="/r/2.png"><img src="/r/3.png" srcset="/r/3-1.png 1x, /r/3-2.png 2x">
<img src="/r/4.png"><img src="/r/5.png"><img src="/r/6.png"><img src="/r/lazy-near.png" loading="lazy">
<picture><source srcset="/r/picture.webp" type="image/webp"><img src="/r/picture.png"></picture>
<script src="/r/body.js"></script>
<video src="/r/video.mp4" preload="metadata" poster="/r/poster.png"></video>
<iframe src="/r/frame.html"></iframe>
<link rel="stylesheet" href="/r/body.css">
<p class="font">text</p><div style="height: 20000px"></div>
<img src="/r/lazy-far.png" loading="lazy">
<script src="/r/last.js"></script>
</body></html>"""

WINDOW = """<!doctype html><html><head><meta charset="utf-8"><title>Window</title></head><body>
<script>addEventListener("load", () => setTimeout(async () => {
  await (await fetch("/bulk/1")).arrayBuffer();
  for (let i = 0; i < 14; i++) {
    await (await fetch("/api/tick?n=" + i)).text(); await new Promise(go => setTimeout(go, 500));
  }
}, 100));</script></body></html>"""

IDLE = """<!doctype html><html><head><meta charset="utf-8"><title>Idle</title></head><body>
<script>addEventListener("load", () => setTimeout(async () => {
  const send = () => fetch("/api/send", {method: "POST", body: new Uint8Array(20000),
    headers: {"content-type": "application/octet-stream"}});
  await (await send()).text();
  await (await fetch("/api/tick?n=0")).text();
}, 12000));</script></body></html>"""

PAGES = {
    "/": SIMPLE.replace("WS", ""),
    "/rich": RICH,
    "/window": WINDOW,
    "/idle": IDLE,
    "/socket": SIMPLE.replace("WS", SOCKET),
    "/r/frame.html": "<!doctype html><p>frame</p>",
}
CSS = """@font-face {font-family: "F"; src: url("/%s/font.woff2") format("woff2")}
h1, .font {font-family: "F"; background-image: url("/%s/background.png")}"""
TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "png": "image/png",
    "webp": "image/webp",
    "woff2": "font/woff2",
    "mp4": "video/mp4",
    "ico": "image/x-icon",
    "webmanifest": "application/manifest+json",
    "html": "text/html; charset=utf-8",
}
Answer = tuple[int, list[tuple[str, str]], bytes]


def answer(path: str, request: dict[str, str], bulk: int) -> Answer:
    """Status, header fields and body for one request."""
    path = path.partition("?")[0]
    if path.startswith("/bulk/"):
        return 200, [("content-type", "application/octet-stream"), ("cache-control", "no-store")], bytes(bulk)
    if path.startswith("/api/"):
        return 200, [("content-type", "application/json"), ("cache-control", "no-store")], b'{"ok":true}'
    body, kind, cache = _resource(path)
    tag = '"' + hashlib.sha256(path.encode() + body).hexdigest()[:12] + '"'
    headers = [("server", "nginx"), ("content-type", kind), ("etag", tag), ("cache-control", cache)]
    if path == "/s/2.png":
        headers.append(("last-modified", "Sun, 01 Nov 2026 00:00:00 GMT"))
    if path in PAGES and "frame" not in path and "cookie" not in request:
        headers.append(("set-cookie", "sid=0123456789abcdef; Path=/; Max-Age=86400; Secure; HttpOnly"))
        headers.append(("set-cookie", "csrftoken=fedcba9876543210; Path=/; Max-Age=86400; Secure"))
    if request.get("if-none-match") == tag:
        return 304, headers, b""
    return 200, [*headers, ("content-length", str(len(body)))], body


def _resource(path: str) -> tuple[bytes, str, str]:
    """Body, type and Cache-Control: pages and /s/2.png are revalidated, everything else may be kept."""
    if path in PAGES:
        return PAGES[path].encode(), TYPES["html"], "no-cache"
    ending = path.rpartition(".")[2]
    where = path.split("/")[1]
    cache = "no-cache" if path == "/s/2.png" else "max-age=3600"
    kind = TYPES.get(ending, "application/octet-stream")
    if ending == "css":
        text = CSS % (where, where) if path.endswith(("a.css", "first.css")) else f"/* {path} */"
        return text.encode(), kind, cache
    if ending == "js":
        return f"/* {path} */\n".encode() * 20, kind, cache
    if ending in ("png", "webp", "ico"):
        return PNG, kind, cache
    if ending == "webmanifest":
        return b'{"name": "Rich"}', kind, cache
    return bytes(64), kind, cache
