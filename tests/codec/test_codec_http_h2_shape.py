"""An http carrier over HTTP/2 with a shape: the page first, then bodies of the shape's sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import test_codec_http_h2
from http_rig import noise
from test_codec_http_h2 import Rig

from ptproxy.codec.http_records import RECORD_HEAD, UPLOAD_HEAD
from ptproxy.codec.shape import BodySizes, ClassShape, Down, Up

SIZES = (320, 700)
SHAPE = ClassShape(
    "browse",
    ("http",),
    up=Up(post_body=SIZES, gather=0.002),
    down=Down(gets_in_flight=2, body=BodySizes((5000,)), idle=0.004),
)


class ShapedRig(Rig):
    """The same, whose bridge follows the shape once message 2 has left."""

    def happened(self, events, link):
        known = self.bridge
        super().happened(events, link)
        if self.bridge is not known:
            self.bridge.links_to_flush()
            self.bridge.follow(SHAPE)


@pytest.mark.parametrize("seed", range(3))
def test_both_ways_with_a_shape(seed, monkeypatch):
    monkeypatch.setattr(test_codec_http_h2, "SETTINGS", replace(test_codec_http_h2.SETTINGS, shape=SHAPE))
    rig = ShapedRig(seed)
    rig.run()
    assert rig.paths[0] == "/", "a page first"
    rig.down.clear()
    up, down = noise(40_000, seed), noise(60_000, seed + 9)
    rig.client.send_data([up[:600]], rig.now)
    rig.run()
    for at in range(600, 40_000, 9850):
        rig.client.send_data([up[at : at + 9850]], rig.now)
        rig.run()
    rig.bridge.send_data([down], rig.now)
    rig.run()
    assert rig.up == up
    assert rig.down == down
    assert rig.ended == {}
    bodies = [body for front in rig.fronts for body in front.bodies.values() if body]
    assert len(bodies[0]) in SIZES
    assert all(len(body) in SIZES or len(body) > SIZES[-1] for body in bodies)
    assert max(map(len, bodies)) == 9850 + UPLOAD_HEAD
    assert RECORD_HEAD == UPLOAD_HEAD == 4
