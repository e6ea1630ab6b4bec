"""ML-KEM by FIPS 203's definitions: number theoretic transforms as sums, no tables, nothing shared with ours.

Its encapsulation takes its random bytes as an argument, which ``cryptography``'s does not.
"""

import hashlib

Q, N = 3329, 256
PARAMETERS = {768: (3, 10, 4), 1024: (4, 11, 5)}  # k, du, dv; eta is 2 in both


def _reversed7(number):
    return int(f"{number:07b}"[::-1], 2)


GAMMA = [pow(17, 2 * _reversed7(i) + 1, Q) for i in range(128)]
POWERS = [[pow(gamma, j, Q) for j in range(128)] for gamma in GAMMA]
INVERSES = [[pow(gamma, -j, Q) for j in range(128)] for gamma in GAMMA]


def ntt(f):
    """Section 4.3: f modulo each X^2 - gamma."""
    even, odd = f[::2], f[1::2]
    result = []
    for powers in POWERS:
        result.append(sum(c * p for c, p in zip(even, powers, strict=True)) % Q)
        result.append(sum(c * p for c, p in zip(odd, powers, strict=True)) % Q)
    return result


def inverse_ntt(f):
    scale, result = pow(128, -1, Q), []
    for j in range(128):
        result.append(scale * sum(INVERSES[i][j] * f[2 * i] for i in range(128)) % Q)
        result.append(scale * sum(INVERSES[i][j] * f[2 * i + 1] for i in range(128)) % Q)
    return result


def multiply(f, g):
    result = []
    for i in range(128):
        a0, a1, b0, b1 = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
        result += [(a0 * b0 + a1 * b1 * GAMMA[i]) % Q, (a0 * b1 + a1 * b0) % Q]
    return result


def add(f, g):
    return [(a + b) % Q for a, b in zip(f, g, strict=True)]


def total(polynomials):
    result = [0] * N
    for polynomial in polynomials:
        result = add(result, polynomial)
    return result


def pack(f, bits):
    number = sum(c << (bits * i) for i, c in enumerate(f))
    return number.to_bytes(32 * bits, "little")


def unpack(data, bits):
    number = int.from_bytes(data, "little")
    return [number >> (bits * i) & (1 << bits) - 1 for i in range(N)]


def compress(f, bits):
    return [((c << bits) + Q // 2) // Q % (1 << bits) for c in f]


def decompress(f, bits):
    return [(c * Q + (1 << bits - 1)) >> bits for c in f]


def sample_ntt(seed):
    stream, result = hashlib.shake_128(seed).digest(2048), []
    for i in range(0, len(stream), 3):
        a, b, c = stream[i : i + 3] if i + 3 <= len(stream) else (255, 255, 255)
        for d in (a + 256 * (b % 16), b // 16 + 16 * c):
            if d < Q and len(result) < N:
                result.append(d)
    assert len(result) == N
    return result


def sample_noise(seed, counter):
    stream = hashlib.shake_256(seed + bytes([counter])).digest(128)
    bits = [byte >> i & 1 for byte in stream for i in range(8)]
    return [(bits[4 * i] + bits[4 * i + 1] - bits[4 * i + 2] - bits[4 * i + 3]) % Q for i in range(N)]


def matrix(rho, k):
    return [[sample_ntt(rho + bytes([j, i])) for j in range(k)] for i in range(k)]


def g(data):
    digest = hashlib.sha3_512(data).digest()
    return digest[:32], digest[32:]


def key_pair(size, seed):
    """Encapsulation key and decapsulation parts from ``d │ z`` (algorithms 13 and 16)."""
    k = PARAMETERS[size][0]
    d, z = seed[:32], seed[32:]
    rho, sigma = g(d + bytes([k]))
    a = matrix(rho, k)
    s = [ntt(sample_noise(sigma, i)) for i in range(k)]
    e = [ntt(sample_noise(sigma, k + i)) for i in range(k)]
    t = [add(total(multiply(a[i][j], s[j]) for j in range(k)), e[i]) for i in range(k)]
    return b"".join(pack(f, 12) for f in t) + rho, (s, z)


def encrypt(size, public, message, randomness):
    """Algorithm 14."""
    k, du, dv = PARAMETERS[size]
    t = [unpack(public[384 * i : 384 * (i + 1)], 12) for i in range(k)]
    a = matrix(public[384 * k :], k)
    y = [ntt(sample_noise(randomness, i)) for i in range(k)]
    e1 = [sample_noise(randomness, k + i) for i in range(k)]
    e2 = sample_noise(randomness, 2 * k)
    u = [add(inverse_ntt(total(multiply(a[j][i], y[j]) for j in range(k))), e1[i]) for i in range(k)]
    mu = decompress(unpack(message, 1), 1)
    v = add(add(inverse_ntt(total(multiply(t[i], y[i]) for i in range(k))), e2), mu)
    return b"".join(pack(compress(f, du), du) for f in u) + pack(compress(v, dv), dv)


def encapsulate(size, public, message):
    """Shared secret and ciphertext from 32 random bytes (algorithm 17)."""
    secret, randomness = g(message + hashlib.sha3_256(public).digest())
    return secret, encrypt(size, public, message, randomness)


def decapsulate(size, seed, ciphertext):
    """Algorithm 18, from the seed."""
    k, du, dv = PARAMETERS[size]
    public, (s, z) = key_pair(size, seed)
    split = 32 * du * k
    u = [decompress(unpack(ciphertext[32 * du * i : 32 * du * (i + 1)], du), du) for i in range(k)]
    v = decompress(unpack(ciphertext[split:], dv), dv)
    noise = inverse_ntt(total(multiply(s[i], ntt(u[i])) for i in range(k)))
    message = pack(compress([(a - b) % Q for a, b in zip(v, noise, strict=True)], 1), 1)
    secret, randomness = g(message + hashlib.sha3_256(public).digest())
    if encrypt(size, public, message, randomness) == ciphertext:
        return secret
    return hashlib.shake_256(z + ciphertext).digest(32)
