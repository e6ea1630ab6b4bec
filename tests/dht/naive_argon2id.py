"""Argon2id by RFC 9106, with Python's integers: one pass, one lane, slow, sharing no code with ours."""

import hashlib

MASK = 2**64 - 1
BLOCK_WORDS = 128


def le32(number):
    return number.to_bytes(4, "little")


def variable_hash(data, length):
    """H', section 3.3."""
    if length <= 64:
        return hashlib.blake2b(le32(length) + data, digest_size=length).digest()
    rounds = -(-length // 32) - 2
    v = hashlib.blake2b(le32(length) + data).digest()
    out = v[:32]
    for _ in range(rounds - 1):
        v = hashlib.blake2b(v).digest()
        out += v[:32]
    return out + hashlib.blake2b(v, digest_size=length - 32 * rounds).digest()


def mix(v, a, b, c, d):
    """GB, section 3.6."""
    va, vb, vc, vd = v[a], v[b], v[c], v[d]
    for turn_d, turn_b in ((32, 24), (16, 63)):
        va = (va + vb + 2 * (va & 0xFFFFFFFF) * (vb & 0xFFFFFFFF)) & MASK
        vd ^= va
        vd = (vd >> turn_d | vd << 64 - turn_d) & MASK
        vc = (vc + vd + 2 * (vc & 0xFFFFFFFF) * (vd & 0xFFFFFFFF)) & MASK
        vb ^= vc
        vb = (vb >> turn_b | vb << 64 - turn_b) & MASK
    v[a], v[b], v[c], v[d] = va, vb, vc, vd


def permute(words):
    """P, section 3.6."""
    for a, b, c, d in (
        (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
        (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
    ):  # fmt: skip
        mix(words, a, b, c, d)
    return words


def compress(x, y):
    """G, section 3.5."""
    r = [one ^ other for one, other in zip(x, y, strict=True)]
    q = list(r)
    for row in range(8):
        q[16 * row : 16 * row + 16] = permute(q[16 * row : 16 * row + 16])
    for column in range(8):
        places = [16 * row + 2 * column + half for row in range(8) for half in (0, 1)]
        for place, word in zip(places, permute([q[place] for place in places]), strict=True):
            q[place] = word
    return [one ^ other for one, other in zip(q, r, strict=True)]


def words_of(data):
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


def argon2id(password, salt, memory, length=32):
    """One pass over ``memory`` KiB in one lane, without secret and associated data."""
    h0 = hashlib.blake2b(
        le32(1) + le32(length) + le32(memory) + le32(1) + le32(0x13) + le32(2)
        + le32(len(password)) + password + le32(len(salt)) + salt + le32(0) + le32(0)
    ).digest()  # fmt: skip
    columns = 4 * (memory // 4)
    segment = columns // 4
    zero = [0] * BLOCK_WORDS
    blocks = [words_of(variable_hash(h0 + le32(number) + le32(0), 1024)) for number in (0, 1)]
    addresses = []
    for column in range(2, columns):
        piece = column // segment
        if piece < 2:  # section 3.4.1.2: the first half does not depend on the data
            if column == 2 or column % segment % BLOCK_WORDS == 0:
                counter = column % segment // BLOCK_WORDS + 1
                seed = [0, 0, piece, columns, 1, 2, counter] + [0] * (BLOCK_WORDS - 7)
                addresses = compress(zero, compress(zero, seed))
            j = addresses[column % segment % BLOCK_WORDS]
        else:
            j = blocks[column - 1][0]
        j1 = j & 0xFFFFFFFF
        area = column - 1  # all blocks before the one before this, in the first pass of a single lane
        x = j1 * j1 >> 32
        blocks.append(compress(blocks[column - 1], blocks[area - 1 - (area * x >> 32)]))
    return variable_hash(b"".join(word.to_bytes(8, "little") for word in blocks[-1]), length)
