"""The HTTP/2 client writes byte for byte, write for write, what recorded browsers wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ptproxy.codec.browser import Browser
from ptproxy.codec.http2 import client as h2_client
from ptproxy.codec.http2.client import H2Client

CODEC = Path(h2_client.__file__).parent.parent
VECTORS = Path(__file__).parent.parent / "vectors"
BROWSERS = {"chromium": "chromium-156", "firefox": "firefox-153"}


def browser(name):
    return Browser.parse(yaml.safe_load((CODEC / "browsers" / f"{BROWSERS[name]}.yaml").read_text()))


def conversations():
    for name in BROWSERS:
        for one in json.loads((VECTORS / f"h2-{name}.json").read_text())["conversations"]:
            yield pytest.param(name, one["steps"], id=f"{name} {one['name']}")


def expand(text):
    bare, _, zeros = text.partition("+")
    return bytes.fromhex(bare) + bytes(int(zeros or 0))


def agent(profile):
    """The values of the recorded machine."""
    return {"user_agent": profile.values["user_agent"].replace("{system}", "X11; Linux x86_64")}


class Replay:
    """Asks a client for what a browser was asked for, in the recorded order."""

    def __init__(self, name):
        self.profile = browser(name)
        self.client = None
        self.streams = {}
        self.expected = []
        self.written = []

    def step(self, step):
        now = step.get("at", 0.0)
        if self.client is None:
            self.client = H2Client(self.profile.http2, 0.0)
        if "client" in step:
            self.expected.append(expand(step["client"]))
        elif "server" in step:
            self.client.receive_data(expand(step["server"]), now)
        elif "change" in step:
            self.client.send_priority(self.streams[step["change"]], step["urgency"])
        else:
            self.streams[step["number"]] = self.request(step, now)
        self.written += [bytes(write) for write in self.client.data_to_send()]

    def request(self, step, now):
        variables = {**agent(self.profile), **step["variables"]}
        cookies = tuple(step.get("cookies", ()))
        fields = self.profile.fields(step["kind"], variables, cookies, step.get("said"))
        body = None
        if "body" in step:
            body = [step["text"].encode() if "text" in step else bytes(step["body"])]
        return self.client.send_request(fields, step["urgency"], body, now)


@pytest.mark.parametrize(("name", "steps"), list(conversations()))
def test_a_recorded_connection_is_written_again(name, steps):
    replay = Replay(name)
    for step in steps:
        replay.step(step)
    got, wanted = replay.written, replay.expected
    if name == "firefox":  # it cuts bodies where its pipes happen to end
        got, wanted = without_bodies(got), without_bodies(wanted)
    for number, (mine, recorded) in enumerate(zip(got, wanted, strict=False)):
        assert mine.hex() == recorded.hex(), f"write {number}"
    assert len(got) == len(wanted)


def without_bodies(writes):
    return [write for write in writes if write[3] != 0 or write.startswith(b"PRI")]
