#!/usr/bin/env python3
"""Reads snapshots by docs/snapshot.md alone: snapshot.py PROGRAM

PROGRAM is tests/tool/snapshot_save.c: it saves sequences to a folder and tells what it put in.
"""

import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

MASK = (1 << 64) - 1
P1, P2, P3, P4, P5 = (11400714785074694791, 14029467366897019727, 1609587929392839161,
                      9650029242287828579, 2870177450012600261)


def rotate(value, bits):
    return (value << bits | value >> (64 - bits)) & MASK


def xxh64(data):
    def mix(lane, word):
        return rotate((lane + word * P2) & MASK, 31) * P1 & MASK

    size, at = len(data), 0
    value = P5
    if size >= 32:
        lanes = [(P1 + P2) & MASK, P2, 0, -P1 & MASK]
        for words in struct.iter_unpack("<4Q", data[: size // 32 * 32]):
            lanes = [mix(lane, word) for lane, word in zip(lanes, words)]
        at = size // 32 * 32
        value = sum(rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & MASK
        for lane in lanes:
            value = ((value ^ mix(0, lane)) * P1 + P4) & MASK
    value = (value + size) & MASK
    while size - at >= 8:
        word = struct.unpack_from("<Q", data, at)[0]
        value = (rotate(value ^ mix(0, word), 27) * P1 + P4) & MASK
        at += 8
    if size - at >= 4:
        word = struct.unpack_from("<I", data, at)[0]
        value = (rotate(value ^ (word * P1 & MASK), 23) * P2 + P3) & MASK
        at += 4
    for byte in data[at:]:
        value = rotate(value ^ (byte * P5 & MASK), 11) * P1 & MASK
    value = (value ^ value >> 33) * P2 & MASK
    value = (value ^ value >> 29) * P3 & MASK
    return value ^ value >> 32


class Reader:
    """Takes a snapshot apart; every step is a sentence of the document."""

    def __init__(self, data, check):
        self.data, self.check, self.at = data, check, 0
        self.read_header()
        self.records = [self.read_record(i) for i in range(self.layers)]
        self.at = 96 + 32 * self.layers
        self.read_checksum(0)
        start = self.at
        self.blob = data[start:start + self.blob_size]
        self.at += self.blob_size
        self.read_checksum(start)
        self.sections = [self.read_section(*record) for record in self.records]
        check.assertEqual(self.at, len(data))

    def read_checksum(self, start):
        wanted = xxh64(self.data[start:self.at])
        self.check.assertEqual(struct.unpack_from("<Q", self.data, self.at)[0], wanted)
        self.at += 8

    def read_header(self):
        (magic, version, self.page_size, self.layers, reserved, self.tokens, self.blob_size,
         self.fingerprint, more, checksum) = struct.unpack_from("<8sIIIIQQ32s16sQ", self.data)
        self.check.assertEqual(magic, bytes.fromhex("93534B494D0D0A1A"))
        self.check.assertEqual(version, 1)
        self.check.assertIn(self.page_size, (8, 16, 32, 64))
        self.check.assertEqual((reserved, more), (0, bytes(16)))
        self.check.assertEqual(checksum, xxh64(self.data[:88]))

    def read_record(self, index):
        heads, key_dim, value_dim, kind, flags, rest = struct.unpack_from(
            "<5I12s", self.data, 96 + 32 * index)
        self.check.assertIn(kind, (1, 2, 3))
        self.check.assertIn(flags, (0, 1))
        self.check.assertEqual(rest, bytes(12))
        return heads, key_dim, value_dim, kind, flags

    def read_section(self, heads, key_dim, value_dim, kind, flags):
        """(centre, keys, values): the last two as bytes per [head][token]."""
        start, width = self.at, 4 if kind == 1 else 2
        centre = None
        if flags & 1:
            centre = struct.unpack_from(f"<{heads * key_dim}f", self.data, self.at)
            self.check.assertTrue(all(map(math.isfinite, centre)))
            self.at += heads * key_dim * 4
        halves = [[[] for _ in range(heads)] for _ in range(2)]
        for page in range(-(-self.tokens // self.page_size)):
            for head in range(heads):
                for half, dim in zip(halves, (key_dim, value_dim)):
                    for token in range(self.page_size):
                        vector = self.data[self.at:self.at + dim * width]
                        self.at += dim * width
                        if page * self.page_size + token < self.tokens:
                            half[head].append(vector)
                        else:
                            self.check.assertEqual(vector, bytes(dim * width))
        self.read_checksum(start)
        return centre, *halves


class Snapshots(unittest.TestCase):
    def test_what_was_put_in_is_where_the_document_says(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([PROGRAM, folder], check=True, capture_output=True, text=True)
            described = json.loads(done.stdout)
            self.assertGreater(len(described), 3)
            for name, facts in described.items():
                with self.subTest(file=name):
                    self.compare(pathlib.Path(folder, name).read_bytes(), facts)

    def compare(self, data, facts):
        got = Reader(data, self)
        for key in ("page_size", "tokens"):
            self.assertEqual(getattr(got, key), facts[key])
        self.assertEqual(got.fingerprint.hex(), facts["fingerprint"])
        self.assertEqual(got.blob.hex(), facts["blob"])
        self.assertEqual([list(record[:4]) for record in got.records], facts["layers"])
        self.assertEqual([record[4] for record in got.records], facts["centres"])
        for (_, keys, values), wanted in zip(got.sections, facts["kv"]):
            # As appended: token by token, all heads' K, then all heads' V.
            flat = b"".join(head[token] for token in range(got.tokens)
                            for half in (keys, values) for head in half)
            self.assertEqual(flat.hex(), wanted)

    def test_the_checksum_of_nothing_is_the_documents(self):
        self.assertEqual(struct.pack("<Q", xxh64(b"")).hex(" ").upper(), "99 E9 D8 51 37 DB 46 EF")


PROGRAM = sys.argv.pop(1)
unittest.main()
