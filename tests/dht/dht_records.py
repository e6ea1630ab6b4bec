"""What the tests of records share: cheap work, bridges, secrets, and sealing in one call."""

from random import Random

from ptproxy.config.link import Link
from ptproxy.dht.epoch import begins, epoch_of
from ptproxy.dht.record_secret import RecordSecret, RecordType
from ptproxy.dht.signing import SigningKey
from ptproxy.dht.work import WorkTarget

DAY = 86_400
NOW = 1_800_000_000 // DAY * DAY + 43_200
"""Noon: no next epoch is open."""
EPOCH = epoch_of(NOW)
CHEAP = WorkTarget(bits=2, memory=8)
"""Four computations of 20 µs."""

assert begins(EPOCH) == NOW - 43_200


def draw(name):
    """Random bytes that are the same in every run."""
    return Random(f"ptproxy dht records {name}").randbytes


def bridge(number=1, host=None, **changes):
    rng = Random(number)
    fields = {
        "key": rng.randbytes(32),
        "host": host or f"bridge{number}.example.com",
        "port": 443,
        "path": f"/assets/{number}",
        "server_name": host or f"bridge{number}.example.com",
        "codecs": ("http", "websocket"),
        "token": rng.randbytes(16),
    }
    return Link(**fields | changes)


ISSUER = SigningKey(draw("issuer")(32))
SECRET = RecordSecret(draw("secret")(32))
BRIDGES = (bridge(1), bridge(2), bridge(3))


def flip(data, position, bit=1):
    return data[:position] + bytes((data[position] ^ bit,)) + data[position + 1 :]


def sealed(
    content=b"content", secret=SECRET, kind=RecordType.BRIDGE_BUCKET, epoch=EPOCH, sequence=0, issuer=ISSUER,
    rng=None, target=CHEAP, **more,
):  # fmt: skip
    """A record with its work done."""
    keys = secret.keys(kind, epoch)
    nonce = keys.find_work(target, 0, 10_000)
    return keys.seal(content, sequence, issuer, nonce, rng or draw(("seal", sequence)), **more)
