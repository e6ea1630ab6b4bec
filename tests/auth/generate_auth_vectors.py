"""Write ``tests/vectors/auth.json``: whole openings, sealed records and a verification, every input fixed.

Run ``python tests/auth/generate_auth_vectors.py`` from the repository's root after a change of
the protocol. The ML-KEM ciphertext cannot be fixed (the library draws its own randomness): the
one in the file is kept, so that an unchanged protocol gives an unchanged file.
"""

import json
from pathlib import Path
from random import Random
from unittest import mock

from auth_pair import Script

from ptproxy.auth import (
    Answer,
    Binding,
    BridgeOpening,
    BridgeVerification,
    ClientOpening,
    ClientVerification,
    Hello,
    ReplayFilter,
    Sealer,
    StaticKey,
    Verdict,
    kem,
)
from ptproxy.auth.opening import SHORTEST_MESSAGE1
from ptproxy.auth.payload import prologue

FILE = Path(__file__).parents[1] / "vectors" / "auth.json"
NOW = 1_800_000_000


def opening(name, codec, binding, hello, answer, lengths, ciphertext=None):
    """One opening; ``ciphertext`` (hexadecimal, or "" for a new one) means: with sealing."""
    rng = Random(f"ptproxy auth vector {name}")
    draw = {
        field: rng.randbytes(length)
        for field, length in [
            ("client_private", 32),
            ("bridge_private", 32),
            ("nonce", 16),
            ("client_ephemeral_private", 32),
            ("bridge_ephemeral_private", 32),
            ("kem_seed", 64),
        ]
    }
    seal = ciphertext is not None
    client_key, bridge_key = StaticKey(draw["client_private"]), StaticKey(draw["bridge_private"])
    message1_length, answer_padding = lengths
    client = ClientOpening(
        bridge_key.public,
        client_key,
        codec,
        seal,
        binding,
        hello,
        Script([draw["nonce"], draw["client_ephemeral_private"]], [message1_length]),
    )
    bridge = BridgeOpening(bridge_key, codec, seal, [binding], ReplayFilter(NOW - 1000))
    bridge.examine(client.message1, NOW)
    seeds = [draw["kem_seed"]] if seal else []
    down = bridge.answer(answer, Script([*seeds, draw["bridge_ephemeral_private"]], [answer_padding]))
    more = {}
    if seal:
        key = kem.DecapsulationKey(Script(seeds))
        if ciphertext:
            sent = bytes.fromhex(ciphertext)
            shared = key.decapsulate(sent)
        else:
            shared, sent = kem.encapsulate(key.public)
        more = {"kem_ciphertext": sent, "kem_shared_secret": shared}
        with mock.patch.object(kem, "encapsulate", return_value=(shared, sent)):
            client.receive_data(down)
    else:
        del draw["kem_seed"]
        client.receive_data(down)
    confirm = client.confirm()
    assert bridge.receive_confirm(confirm) == b""
    first, second = client._handshake.split()
    more |= {"seal_key_up": client.keys.seal_send, "seal_key_down": client.keys.seal_receive} if seal else {}
    return {
        "name": name,
        "codec": codec,
        "seal": seal,
        **shown(draw),
        "client_public": client_key.public.hex(),
        "bridge_public": bridge_key.public.hex(),
        "prologue": prologue(codec, seal, binding).hex(),
        "hello": hello.serialize().hex(),
        "message1": client.message1.hex(),
        "answer_payload_head": answer.serialize().hex(),
        "answer_padding": answer_padding,
        "answer": down.hex(),
        **shown(
            {
                "handshake_hash": client.keys.handshake_hash,
                "k1": first.key,
                "k2": second.key,
                "token_key": client.keys.token_key,
                **more,
                "confirm": confirm,
            }
        ),
    }


def verification():
    """One challenge and its proof."""
    rng = Random("ptproxy auth vector verification")
    draw = {
        field: rng.randbytes(32)
        for field in (
            "client_private",
            "bridge_private",
            "handshake_hash",
            "bridge_ephemeral_private",
            "client_ephemeral_private",
        )
    }
    client_key, bridge_key = StaticKey(draw["client_private"]), StaticKey(draw["bridge_private"])
    handshake_hash = draw["handshake_hash"]
    bridge = BridgeVerification(
        bridge_key, client_key.public, handshake_hash, Script([draw["bridge_ephemeral_private"]])
    )
    client = ClientVerification(
        client_key, bridge_key.public, handshake_hash, Script([draw["client_ephemeral_private"]])
    )
    challenge = bridge.challenge()
    proof = client.prove(challenge)
    bridge.check(proof)
    return shown({**draw, "challenge": challenge, "proof": proof})


def sealing():
    """Three records of one direction."""
    key = Random("ptproxy auth vector seal").randbytes(32)
    plaintexts = [b"first record", b"\0" * 300, b"third"]
    sealer = Sealer(key)
    return {
        "key": key.hex(),
        "records": [
            {"plaintext": plaintext.hex(), "sealed": b"".join(sealer.seal([plaintext])).hex()}
            for plaintext in plaintexts
        ],
    }


def make(ciphertext=""):
    """All vectors; ``ciphertext`` is the sealed opening's, "" for a new one."""
    session, token = bytes(range(0x10, 0x20)), bytes(range(0x40, 0x50))
    return {
        "source": "tests/auth/generate_auth_vectors.py; ptproxy/auth/PROTOCOL.md explains every field",
        "openings": [
            opening(
                "new session",
                "websocket",
                Binding.certificate(bytes(range(32))),
                Hello(b"", 0, (), NOW, token),
                Answer(session, Verdict.NEW, NOW + 1),
                (SHORTEST_MESSAGE1 + 3, 40),
            ),
            opening(
                "resumed and sealed",
                "http",
                Binding.none(),
                Hello(session, 7, (3, 6), NOW),
                Answer(session, Verdict.ATTACHED, NOW + 1),
                (SHORTEST_MESSAGE1 + 40, 17),
                ciphertext,
            ),
        ],
        "seal": sealing(),
        "verification": verification(),
    }


def shown(fields):
    return {name: value.hex() for name, value in fields.items()}


if __name__ == "__main__":
    kept = json.loads(FILE.read_text("utf-8"))["openings"][1]["kem_ciphertext"] if FILE.exists() else ""
    FILE.write_text(json.dumps(make(kept), indent=1) + "\n", "utf-8")
