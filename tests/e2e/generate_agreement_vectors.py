"""Write ``tests/vectors/e2e-agreement.json``: agreements of every suite, from fixed private keys.

Made by the second, naive implementation alone. Run ``python
tests/e2e/generate_agreement_vectors.py`` from the repository's root after a change of the protocol.
"""

import json
from pathlib import Path
from random import Random

import naive_agreement as naive

FILE = Path(__file__).parents[1] / "vectors" / "e2e-agreement.json"
MADE = 1_800_000_000
CASES = [
    (1, True, True),
    (1, False, True),
    (2, True, True),
    (2, False, False),
    (3, True, False),
    (3, False, True),
]
"""Suite, with a one-time prekey, signed."""


def agreement(suite, with_one_time, signed):
    """One agreement, every byte string in hexadecimal."""
    name = f"suite {suite}, {'with' if with_one_time else 'without'} a one-time prekey, "
    name += "signed" if signed else "deniable"
    draw = Random(f"ptproxy e2e vector {name}").randbytes
    a, b = naive.Person(draw(32), draw(32)), naive.Person(draw(32), draw(32))
    private = {"e": draw(32), "spk": draw(32), "kem_seed": draw(64), "opk": draw(32)}
    private |= {"one_time_kem_seed": draw(64), "kem_message": draw(32)}
    ids = {"bundle_id": int.from_bytes(draw(4), "big"), "one_time_id": int.from_bytes(draw(4), "big")}
    bundle = naive.bundle(b, suite, ids["bundle_id"], MADE, private["spk"], private["kem_seed"])
    one_time = naive.one_time(
        b, suite, ids["one_time_id"], MADE, private["opk"], private["one_time_kem_seed"]
    )
    seed = private["one_time_kem_seed" if with_one_time else "kem_seed"]
    fetched = naive.Fetched(
        suite,
        bundle,
        one_time if with_one_time else b"",
        ids["bundle_id"],
        ids["one_time_id"] if with_one_time else 0,
        naive.x25519_public(private["spk"]),
        naive.x25519_public(private["opk"]) if with_one_time else b"",
        naive.kem_public(suite, seed),
    )
    sk, ad, session, opening = naive.begin(
        a, b.identity, fetched, private["e"], private["kem_message"], signed
    )
    values = {"a_ed25519": a.ed, "a_x25519": a.x, "b_ed25519": b.ed, "b_x25519": b.x} | private
    values |= {"bundle": bundle, "one_time": fetched.one_time, "bundle_hash": fetched.hash}
    values |= {"opening": opening, "sk": sk, "ad": ad, "session_id": session}
    head = {"name": name, "suite": suite, "signed": signed, "made": MADE} | ids
    return head | {key: value.hex() for key, value in values.items()}


def identity():
    """Two identities, what people compare of them, and a succession."""
    draw = Random("ptproxy e2e vector identity").randbytes
    old, new = naive.Person(draw(32), draw(32)), naive.Person(draw(32), draw(32))
    pair = naive.h(b"ptproxy 1 e2e pair\0", *sorted((old.fingerprint, new.fingerprint)))
    values = {"old_ed25519": old.ed, "old_x25519": old.x, "new_ed25519": new.ed, "new_x25519": new.x}
    values |= {"old": old.identity, "fingerprint": old.fingerprint, "pair": pair}
    values |= {"succession": naive.succession(old, new, MADE)}
    return {"made": MADE} | {key: value.hex() for key, value in values.items()}


def generate():
    return {"identity": identity(), "agreements": [agreement(*case) for case in CASES]}


if __name__ == "__main__":
    FILE.write_text(json.dumps(generate(), indent=1) + "\n", "utf-8")
