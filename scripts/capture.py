"""Record what installed browsers send over HTTP/2 and for a WebSocket upgrade; what ``scripts/capture`` runs.

One run of a browser is one *visit* of a page of :mod:`capture_site`; visits of a
*series* share the browser's profile directory, so the later ones meet a filled
cache and cookies. Everything stays on loopback: site.example is mapped there and
every other name is refused. Writes ``OUT/BROWSER.raw.json``, from which
``capture_profile.py`` makes profile data and golden recordings.
"""

from __future__ import annotations

import argparse
import base64
import datetime
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from capture_server import CaptureServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "site.example"
SERIES: dict[str, list[str]] = {
    "simple": ["/", "/"],
    "rich": ["/rich", "/rich"],
    "window": ["/window"],
    "socket": ["/socket"],
    "idle": ["/idle"],
    "cookie": ["/?stay", "/?stay"],
}
"""Pages visited one after another with one profile directory."""
SECONDS = {"/window": 16.0, "/idle": 20.0, "/?stay": 34.0}
"""How long a visit lasts; others take :data:`VISIT`. Chromium writes cookies to disk after 30 s."""
VISIT = 5.0
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-default-browser-check",
    "--password-store=basic", "--lang=en-US", "--window-size=1280,900",
]  # fmt: skip
FIREFOX_PREFERENCES = {
    "network.dns.localDomains": HOST,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
    "app.normandy.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "services.settings.server": "",
    "browser.startup.homepage_override.mstone": "ignore",
    "browser.aboutwelcome.enabled": False,
    "extensions.update.enabled": False,
    "network.trr.mode": 5,
}


def certificates(folder: Path, *more: str) -> tuple[Path, Path, Path, str]:
    """A throw-away authority and a certificate for HOST and ``more``: chain, key, authority, SPKI hash."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "throw-away authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])

    def build(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder(issuer, name, public, x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
            now + datetime.timedelta(days=30)
        )

    authority = build(issuer, authority_key.public_key())
    authority = authority.add_extension(x509.BasicConstraints(True, 0), critical=True)
    leaf = build(subject, key.public_key())
    leaf = leaf.add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name) for name in (HOST, *more)]), critical=False
    )
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    pem = serialization.Encoding.PEM
    root = authority.sign(authority_key, hashes.SHA256()).public_bytes(pem)
    (folder / "authority.pem").write_bytes(root)
    (folder / "chain.pem").write_bytes(leaf.sign(authority_key, hashes.SHA256()).public_bytes(pem) + root)
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    hashed = base64.b64encode(hashlib.sha256(spki).digest()).decode()
    return folder / "chain.pem", folder / "key.pem", folder / "authority.pem", hashed


def version_of(program: str) -> str:
    """What the browser calls itself."""
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"[0-9]+(\.[0-9a-z]+)+", answer)
    return found[0] if found else "unknown"


def chromium(program: str, profile: Path, port: int, spki: str, page: str, headless: bool) -> list[str]:
    """The command line for one visit."""
    major = version_of(program).split(".")[0]
    agent = (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        f"Chrome/{major}.0.0.0 Safari/537.36"
    )
    own = ["--headless=new", f"--user-agent={agent}"] if headless else []
    rules = f"MAP {HOST} 127.0.0.1:{port},MAP * ~NOTFOUND,EXCLUDE 127.0.0.1"
    return [
        program, *own, *CHROMIUM_FLAGS, f"--user-data-dir={profile}", f"--host-resolver-rules={rules}",
        f"--ignore-certificate-errors-spki-list={spki}", f"https://{HOST}{page}",
    ]  # fmt: skip


def firefox(program: str, profile: Path, port: int, authority: Path, page: str) -> list[str]:
    """The command line for one visit; prepares the profile directory the first time."""
    if not (profile / "user.js").exists():
        profile.mkdir(parents=True, exist_ok=True)
        lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in FIREFOX_PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines) + "\n")
        store = ["certutil", "-d", f"sql:{profile}"]
        subprocess.run([*store, "-N", "--empty-password"], check=True)
        subprocess.run([*store, "-A", "-n", "capture", "-t", "C,,", "-i", str(authority)], check=True)
    return [
        program, "--headless", "--no-remote", "--profile", str(profile), f"https://{HOST}:{port}{page}"
    ]  # fmt: skip


def visit(command: list[str], seconds: float) -> None:
    """Run a browser for so long, in a process group of its own, and end it."""
    quiet = subprocess.DEVNULL
    environment = {**os.environ, "MOZ_DISABLE_AUTO_SAFE_MODE": "1"}
    browser = subprocess.Popen(
        ["nice", "-n", "15", *command], stdout=quiet, stderr=quiet, start_new_session=True, env=environment
    )
    time.sleep(seconds)
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(browser.pid, number)
        except ProcessLookupError:
            break
        try:
            browser.wait(5)
        except subprocess.TimeoutExpired:
            continue
        if number == signal.SIGTERM:
            time.sleep(1)


def capture(kind: str, program: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Every series with one browser."""
    visits: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="capture-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        chain, key, authority, spki = certificates(folder)
        server = CaptureServer(chain, key, arguments.delay / 1000, arguments.bulk)
        for series in arguments.series or SERIES:
            for number, page in enumerate(SERIES[series]):
                profile = folder / kind / series
                if kind == "chromium":
                    command = chromium(program, profile, server.port, spki, page, not arguments.headful)
                else:
                    command = firefox(program, profile, server.port, authority, page)
                visit(command, arguments.slow * SECONDS.get(page, VISIT))
                recordings = [asdict(recording) for recording in server.take()]
                visits.append({"series": series, "visit": number, "page": page, "connections": recordings})
                print(kind, series, number, [len(known["entries"]) for known in recordings], flush=True)
        server.close()
    return {
        "browser": kind,
        "version": version_of(program),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "platform": f"{platform.system()} {platform.machine()}",
        "headless": not arguments.headful,
        "delay_ms": arguments.delay,
        "host": HOST if kind == "chromium" else f"{HOST}:{server.port}",
        "visits": visits,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the recordings")
    parser.add_argument("--browser", choices=["chromium", "firefox"], action="append")
    parser.add_argument("--series", choices=list(SERIES), action="append")
    parser.add_argument("--delay", type=float, default=20.0, help="ms before each answer")
    parser.add_argument("--bulk", type=int, default=12 << 20, help="bytes of the large download")
    parser.add_argument("--slow", type=float, default=1.0, help="factor on the length of a visit")
    parser.add_argument("--headful", action="store_true", help="with a window: needs a display (xvfb-run)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    programs = {"chromium": ("chromium", "google-chrome"), "firefox": ("firefox-esr", "firefox")}
    for kind in arguments.browser or programs:
        program = next(filter(None, map(shutil.which, programs[kind])), None)
        if program is None:
            print(kind, "is not installed", file=sys.stderr)
            continue
        recorded = capture(kind, program, arguments)
        (arguments.out / f"{kind}.raw.json").write_text(json.dumps(recorded, indent=0) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
