"""Write ``tests/vectors/dht-records.json``: records, invites and the rest, from fixed secrets.

Made by the second, naive implementation alone. Run ``python
tests/dht/generate_record_vectors.py`` from the repository's root after a change of the formats.
"""

import json
from pathlib import Path
from random import Random

import naive_records as naive

FILE = Path(__file__).parents[1] / "vectors" / "dht-records.json"
EPOCH = 20_833
BITS, MEMORY = 3, 16
LINES = [
    "ptproxy://AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE@one.example.com:443?path=/a&codecs=http",
    "ptproxy://AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI@192.0.2.7:8443?name=two.example.com&codecs=websocket,http",
    "ptproxy://AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM@[2001:db8::3]:443?codecs=random&token=BAQEBAQEBAQEBAQEBAQEBA",
]


def records():
    draw = Random("ptproxy dht record vectors").randbytes
    contents = [
        (naive.BRIDGE_BUCKET, naive.bucket(LINES)),
        (naive.BRIDGE_BUCKET, naive.bucket([])),
        (naive.PREKEY_BUNDLE, draw(1_754)),
        (naive.MAILBOX_POINTER, naive.pointer(LINES[0], draw(77))),
    ]
    for number, (kind, content) in enumerate(contents):
        secret, issuer, gcm_nonce, beacon = draw(32), draw(32), draw(12), draw(32)
        epoch, sequence = EPOCH + number, number << 16 | number
        data = naive.record(secret, kind, epoch, sequence, content, issuer, gcm_nonce, BITS, MEMORY)
        key = naive.ed25519_public(naive.seed_of(secret, kind, epoch))
        yield {
            "kind": kind,
            "epoch": epoch,
            "sequence": sequence,
            "bits": BITS,
            "memory": MEMORY,
            "secret": secret.hex(),
            "issuer_seed": issuer.hex(),
            "issuer": naive.ed25519_public(issuer).hex(),
            "gcm_nonce": gcm_nonce.hex(),
            "content": content.hex(),
            "record": data.hex(),
            "locations": [place.hex() for place in naive.locations(key, epoch)],
            "beacon": beacon.hex(),
            "locations_with_beacon": [place.hex() for place in naive.locations(key, epoch, beacon)],
            "moments": naive.moments(secret, kind, epoch),
        }


def nodes():
    draw = Random("ptproxy dht node vectors").randbytes
    for bits, memory in [(0, 8), (4, 16), (1, 1_024)]:
        key = draw(32)
        nonce, place = naive.node(key, bits, memory)
        yield {"key": key.hex(), "bits": bits, "memory": memory, "nonce": nonce.hex(), "id": place.hex()}


def invites():
    draw = Random("ptproxy dht invite vectors").randbytes
    for count in (1, 3):
        issuer, secret, expires = draw(32), draw(32), 1_800_000_000 + count
        yield {
            "issuer_seed": issuer.hex(),
            "secret": secret.hex(),
            "expires": expires,
            "lines": LINES[:count],
            "text": naive.invite(issuer, secret, expires, LINES[:count]),
            "id": naive.invite_id(secret).hex(),
        }


def others():
    draw = Random("ptproxy dht other vectors").randbytes
    secret, location, requester, now = draw(32), draw(32), draw(32), 1_800_000_123
    seeds = {place: draw(32) for place in (0, 1, 2, 3)}
    value = naive.beacon_value(EPOCH, b"a public value")
    return {
        "write_token": {
            "secret": secret.hex(),
            "location": location.hex(),
            "requester": requester.hex(),
            "now": now,
            "token": naive.write_token(secret, now, location, requester).hex(),
        },
        "beacon": {
            "epoch": EPOCH,
            "public_value": b"a public value".hex(),
            "value": value.hex(),
            "keys": [naive.ed25519_public(seed).hex() for seed in seeds.values()],
            "statement": naive.beacon(EPOCH, value, {place: seeds[place] for place in (0, 2, 3)}).hex(),
        },
    }


def generate():
    return {
        "about": "dht/RECORDS.md: made by tests/dht/naive_records.py; byte strings in hexadecimal",
        "nodes": list(nodes()),
        "records": list(records()),
        "invites": list(invites()),
        **others(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(generate(), indent=1) + "\n", "utf-8")
