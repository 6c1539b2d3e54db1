#!/usr/bin/env python3
"""Writes tests/records.tsv: records of DTLS 1.2, right and wrong ones.

    tests/records.py >tests/records.tsv

Written from RFC 5246, 5288, 6347, 6655, 7905 and 9146 with python3-cryptography, so that the table
owes nothing to the gateway's own code. The tests read the table alone and do not run this.
"""

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

MASTER = bytes(range(0x30))
CLIENT_RANDOM = bytes(range(0x40, 0x60))
SERVER_RANDOM = bytes(range(0x80, 0xA0))
CID = bytes.fromhex("c0a1b2c3d4e5f607")
LONG_CID = bytes(range(32))
HELLO = b"hello"

# number: AEAD, length of key, of salt, of tag, digest of the PRF
SUITES = {
    0xC0A8: ("ccm", 16, 4, 8, "sha256"),
    0xC0A4: ("ccm", 16, 4, 16, "sha256"),
    0x00A8: ("gcm", 16, 4, 16, "sha256"),
    0x00A9: ("gcm", 32, 4, 16, "sha384"),
    0xC0A9: ("ccm", 32, 4, 8, "sha256"),
    0xC0A5: ("ccm", 32, 4, 16, "sha256"),
    0xCCAB: ("chacha", 32, 12, 16, "sha256"),
}

HEADER = """\
# Records of DTLS 1.2, right and wrong, written by tests/records.py. Read by the unit tests of the record layer.
#
# All are from a client whose association has the master secret 00 01 .. 2f, the client random 40 41 .. 5f and the
# server random 80 81 .. 9f. The receiver has seen the sequences 3, 5 and 70 of epoch 1.
#
# Columns, separated by tabs:
#   name
#   the datagram in hex; "z*N" stands for N zero bytes
#   the cipher suite
#   the Connection ID that the receiver gave, or -
#   what is opened, as TYPE:HEX of each record, with a comma between two; or -
#   the section that says so"""


def prf(digest, secret, seed, length):
    """P_hash of RFC 5246 5."""
    out, a = b"", seed
    while len(out) < length:
        a = hmac.new(secret, a, digest).digest()
        out += hmac.new(secret, a + seed, digest).digest()
    return out[:length]


def client_key(suite):
    _, key, salt, _, digest = SUITES[suite]
    block = prf(getattr(hashlib, digest), MASTER,
                b"key expansion" + SERVER_RANDOM + CLIENT_RANDOM, 2 * (key + salt))
    return block[:key], block[2 * key:2 * key + salt]


def aead(suite):
    kind, _, _, tag, _ = SUITES[suite]
    key, _ = client_key(suite)
    if kind == "ccm":
        return AESCCM(key, tag_length=tag)
    return AESGCM(key) if kind == "gcm" else ChaCha20Poly1305(key)


def record(suite=0xC0A8, kind=23, plain=HELLO, seq=71, epoch=1, cid=b"", version=0xFEFD, pad=0,
           inner=None, aad=None, explicit=None, length=None):
    """One record. `inner` is the plaintext as it is, where it is not content, type and padding;
    `aad` changes the additional data; `explicit` and `length` are not as they should be."""
    number = struct.pack(">HHI", epoch, seq >> 32, seq & 0xFFFFFFFF)
    if cid:
        kind, plain = 25, plain + bytes([kind]) + bytes(pad) if inner is None else inner
        extra = (b"\xff" * 8 + bytes([25, len(cid), 25]) + struct.pack(">H", version) + number + cid
                 + struct.pack(">H", len(plain)))
    else:
        extra = number + bytes([kind]) + struct.pack(">HH", version, len(plain))
    _, salt = client_key(suite)
    if SUITES[suite][0] == "chacha":
        carried = b""
        nonce = bytes(a ^ b for a, b in zip(salt, bytes(4) + number))
    else:
        carried = number if explicit is None else explicit
        nonce = salt + carried
    body = carried + aead(suite).encrypt(nonce, plain, aad(extra) if aad else extra)
    size = len(body) if length is None else length
    return bytes([kind]) + struct.pack(">H", version) + number + cid + struct.pack(">H", size) + body


def changed(data, at, by=1):
    out = bytearray(data)
    out[at] ^= by
    return bytes(out)


def zero_record(kind, epoch, seq, claimed, there, cid=b""):
    """A header, and a body of zero bytes in the short form of the table."""
    head = (bytes([kind]) + b"\xfe\xfd" + struct.pack(">HHI", epoch, 0, seq) + cid
            + struct.pack(">H", claimed))
    return head.hex() + (f"z*{there}" if there else "")


ROWS = []


def row(name, data, opened="-", suite=0xC0A8, cid=b"", section="RFC 6347 4.1"):
    text = data if isinstance(data, str) else data.hex()
    ROWS.append((name, text, f"{suite:04x}", cid.hex() or "-", opened, section))


def said(plain=HELLO, kind=23):
    return f"{kind}:{plain.hex()}"


def good():
    for suite, (kind, key, _, tag, _) in SUITES.items():
        name = f"{kind}-{8 * key}-{tag}"
        section = {"ccm": "RFC 6655 3", "gcm": "RFC 5288 3", "chacha": "RFC 7905 2"}[kind]
        row(f"plain-{name}", record(suite), said(), suite, section=section)
        row(f"cid-{name}", record(suite, cid=CID), said(), suite, CID, "RFC 9146 5.3")
        row(f"empty-{name}", record(suite, plain=b""), said(b""), suite, section="RFC 5246 6.2.1")
    row("padded", record(cid=CID, pad=7), said(), cid=CID, section="RFC 9146 4")
    row("cid-empty", record(cid=CID, plain=b""), said(b""), cid=CID, section="RFC 9146 4")
    row("cid-32-bytes", record(cid=LONG_CID), said(), cid=LONG_CID, section="RFC 9146 3")
    row("cid-1-byte", record(cid=b"\x07"), said(), cid=b"\x07", section="RFC 9146 3")
    row("no-cid-where-one-is-known", record(), said(), cid=CID, section="RFC 9146 4")
    row("content-ends-in-zeros", record(plain=b"a\0\0"), said(b"a\0\0"))
    row("cid-content-ends-in-zeros", record(plain=b"a\0\0", cid=CID), said(b"a\0\0"), cid=CID)
    row("alert", record(kind=21, plain=b"\x01\x00"), said(b"\x01\x00", 21))
    row("cid-handshake", record(kind=22, plain=b"\x00" * 12, cid=CID), said(b"\x00" * 12, 22),
        cid=CID)
    row("last-sequence", record(seq=(1 << 48) - 1), said())
    row("explicit-nonce-of-its-own", record(explicit=b"\x9a" * 8), said(), section="RFC 6655 3")
    row("oldest-of-the-window", record(seq=7), said(), section="RFC 6347 4.1.2.6")
    row("behind-but-fresh", record(seq=69), said(), section="RFC 6347 4.1.2.6")
    row("three", record(seq=71) + record(seq=72, plain=b"two") + record(seq=73, plain=b"three"),
        ",".join((said(), said(b"two"), said(b"three"))))
    row("cid-and-plain", record(seq=71, cid=CID) + record(seq=72), said() + "," + said(), cid=CID)
    row("bad-between-two", record(seq=71) + changed(record(seq=72), -1) + record(seq=73),
        said() + "," + said(), section="RFC 6347 4.1.2.7")
    row("replay-between-two", record(seq=71) + record(seq=71) + record(seq=73),
        said() + "," + said(), section="RFC 6347 4.1.2.6")
    row("old-epoch-between-two", record(seq=71) + record(seq=72, epoch=0) + record(seq=73),
        said() + "," + said())
    row("garbage-behind-one", record(seq=71) + b"garbage that is long enough", said())
    row("half-a-record-behind-one", record(seq=71) + record(seq=72)[:20], said())
    row("bad-length-ends-all", record(seq=71) + record(seq=72, length=4000) + record(seq=73),
        said())


def forged():
    for suite in (0xC0A8, 0x00A8, 0xCCAB):
        name = SUITES[suite][0]
        row(f"tag-first-byte-{name}", changed(record(suite), -SUITES[suite][3]), suite=suite)
        row(f"tag-last-byte-{name}", changed(record(suite), -1), suite=suite)
        row(f"text-changed-{name}", changed(record(suite), -SUITES[suite][3] - 1), suite=suite)
        row(f"sequence-changed-{name}", changed(record(suite), 10, 0x10), suite=suite)
        row(f"epoch-changed-{name}", changed(record(suite), 4, 2), suite=suite)
        row(f"type-changed-{name}", changed(record(suite), 0, 23 ^ 22), suite=suite)
    row("explicit-nonce-changed", changed(record(), 13))
    row("version-1.0", changed(record(), 2, 0xFD ^ 0xFF))
    row("version-1.3", changed(record(), 2, 0xFD ^ 0xFC))
    row("version-of-tls", changed(record(), 1, 0xFE ^ 0x03))
    row("version-1.0-authentic", record(version=0xFEFF))
    row("cid-first-byte-changed", changed(record(cid=CID), 11), cid=CID, section="RFC 9146 5.3")
    row("cid-last-byte-changed", changed(record(cid=CID), 18), cid=CID, section="RFC 9146 5.3")
    row("cid-of-another", record(cid=CID[::-1]), cid=CID, section="RFC 9146 6")
    row("cid-tag-changed", changed(record(cid=CID), -1), cid=CID)
    row("cid-text-changed", changed(record(cid=CID), 27), cid=CID)
    row("cid-sequence-changed", changed(record(cid=CID), 10, 0x10), cid=CID)
    row("aad-of-rfc-5246", record(cid=CID, aad=lambda a: a[13:21] + b"\x19\xfe\xfd\x00\x06"),
        cid=CID, section="RFC 9146 5.3")
    row("aad-without-eight-ff", record(cid=CID, aad=lambda a: a[8:]), cid=CID,
        section="RFC 9146 5.3")
    row("aad-of-the-draft",
        record(cid=CID, aad=lambda a: a[13:21] + a[10:13] + CID + a[9:10] + a[-2:]), cid=CID,
        section="RFC 9146 5.3")
    row("aad-without-length-of-cid", record(cid=CID, aad=lambda a: a[:9] + a[10:]), cid=CID,
        section="RFC 9146 5.3")
    row("aad-with-length-of-body", record(aad=lambda a: a[:-1] + bytes([a[-1] + 16])))
    row("key-of-another-suite", record(0xC0A4))


def misplaced():
    row("cid-where-none-is-used", record(cid=CID), section="RFC 9146 4")
    row("cid-shorter-than-ours", record(cid=CID[:4]), cid=CID, section="RFC 9146 4")
    row("cid-longer-than-ours", record(cid=LONG_CID), cid=CID, section="RFC 9146 4")
    row("cid-header-cut", record(cid=CID)[:18], cid=CID)
    row("cid-header-alone", record(cid=CID)[:21], cid=CID)
    row("cid-in-epoch-0", record(cid=CID, epoch=0), cid=CID, section="RFC 9146 4")
    row("cid-padding-only", record(cid=CID, inner=bytes(16)), cid=CID, section="RFC 9146 4")
    row("cid-no-inner-type", record(cid=CID, inner=b""), cid=CID, section="RFC 9146 4")
    for kind in (1, 19, 24, 25, 26, 255):
        row(f"cid-inner-type-{kind}", record(cid=CID, kind=kind), cid=CID, section="RFC 9146 4")
    row("cid-empty-alert", record(cid=CID, kind=21, plain=b""), cid=CID, section="RFC 5246 6.2.1")
    row("cid-empty-handshake", record(cid=CID, kind=22, plain=b"", pad=3), cid=CID,
        section="RFC 5246 6.2.1")
    for kind, name in ((20, "change-cipher-spec"), (21, "alert"), (22, "handshake")):
        row(f"empty-{name}", record(kind=kind, plain=b""), section="RFC 5246 6.2.1")
    for kind in (0, 19, 24, 26, 255):
        row(f"type-{kind}", record(kind=kind), section="RFC 6347 4.1")
    row("unified-header-of-1.3", b"\x2e" + record()[1:], section="RFC 9147 4")
    row("epoch-0", record(epoch=0))
    row("epoch-2", record(epoch=2))
    row("epoch-65535", record(epoch=65535))
    for seq in (3, 5, 70):
        row(f"replay-{seq}", record(seq=seq), section="RFC 6347 4.1.2.6")
        row(f"cid-replay-{seq}", record(seq=seq, cid=CID), cid=CID, section="RFC 6347 4.1.2.6")
    row("older-than-the-window", record(seq=6), section="RFC 6347 4.1.2.6")
    row("sequence-0", record(seq=0), section="RFC 6347 4.1.2.6")
    row("no-bytes", b"")
    row("header-cut", record()[:12])
    row("header-alone", record()[:13])
    row("one-byte-short", record()[:-1])
    row("body-of-no-bytes", zero_record(23, 1, 71, 0, 0))
    row("body-of-one-byte", zero_record(23, 1, 71, 1, 1))
    row("body-shorter-than-nonce", zero_record(23, 1, 71, 7, 7))
    row("body-of-nonce-alone", zero_record(23, 1, 71, 8, 8))
    row("body-one-short-of-a-tag", zero_record(23, 1, 71, 15, 15))
    row("body-shorter-than-tag-chacha", zero_record(23, 1, 71, 15, 15), suite=0xCCAB)
    row("cid-body-shorter-than-tag", zero_record(25, 1, 71, 15, 15, CID), cid=CID)
    row("length-beyond-datagram", zero_record(23, 1, 71, 65535, 100))
    row("length-one-beyond", zero_record(23, 1, 71, 101, 100))
    row("plain-one-too-long", long_record(2 ** 14 + 1), section="RFC 6347 4.1")
    row("cid-inner-one-too-long", long_record(2 ** 14 + 1, CID), cid=CID, section="RFC 9146 4")
    row("cipher-one-too-long", zero_record(23, 1, 71, 2 ** 14 + 257, 2 ** 14 + 257))
    row("plain-epoch-one-too-long", zero_record(22, 0, 71, 2 ** 14 + 1, 2 ** 14 + 1))
    row("as-long-as-a-datagram-can-be", zero_record(23, 1, 71, 65507 - 13, 65507 - 13))


def long_record(length, cid=b""):
    """Sealed text that becomes zeros in the table would not be authentic: it is written whole."""
    return record(plain=bytes(length), cid=cid)


def main():
    good()
    forged()
    misplaced()
    print(HEADER)
    print("name", "hex", "suite", "cid", "opened", "section", sep="\t")
    for one in ROWS:
        print(*one, sep="\t")


if __name__ == "__main__":
    main()
