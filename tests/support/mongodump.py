#!/usr/bin/env python3
"""Archives of mongodump, read and written by the published description of their format alone.

  mongodump.py pack DIRECTORY ARCHIVE [--gzip]    an archive of a directory, collections by turns
  mongodump.py unpack ARCHIVE DIRECTORY           the opposite; fails if anything is wrong

https://github.com/mongodb/mongo-tools: common/archive. The checksum is CRC-64 of ECMA-182, reflected, from all ones
and inverted at the end (CRC-64/XZ).
"""

import base64
import gzip
import hashlib
import json
import struct
import sys
from pathlib import Path
from urllib.parse import quote_plus, unquote_plus

MAGIC = struct.pack("<I", 0x8199E26D)
END = b"\xff\xff\xff\xff"
POLYNOMIAL = 0xC96C5795D7870F42


def table():
    out = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
        out.append(byte)
    return out


TABLE = table()


def crc64(data, crc=0):
    crc ^= 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFFFFFFFFFF


assert crc64(b"123456789") == 0x995DC9BBDF1939FA


def document(fields):
    out = b""
    for name, value in fields.items():
        key = name.encode() + b"\0"
        if isinstance(value, bool):
            out += b"\x08" + key + bytes([value])
        elif isinstance(value, tuple):
            out += b"\x12" + key + struct.pack("<Q", value[0])
        elif isinstance(value, int):
            out += b"\x10" + key + struct.pack("<i", value)
        else:
            text = value.encode() + b"\0"
            out += b"\x02" + key + struct.pack("<i", len(text)) + text
    return struct.pack("<i", len(out) + 5) + out + b"\0"


def fields(data):
    out, at = {}, 4
    while data[at] != 0:
        kind, end = data[at], data.index(b"\0", at + 1)
        name, at = data[at + 1 : end].decode(), end + 1
        if kind == 0x02:
            (size,) = struct.unpack_from("<i", data, at)
            value, at = data[at + 4 : at + 3 + size].decode(), at + 4 + size
        elif kind == 0x08:
            value, at = data[at] == 1, at + 1
        elif kind == 0x10:
            (value,), at = struct.unpack_from("<i", data, at), at + 4
        elif kind == 0x12:
            (value,), at = struct.unpack_from("<Q", data, at), at + 8
        else:
            raise SystemExit(f"a field of type {kind}")
        out[name] = value
    return out


def documents(data):
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<i", data, at)
        yield data[at : at + size]
        at += size


def stem(name):
    """The name of the files of a collection: a long one is cut off, and its hash follows."""
    escaped = quote_plus(name, safe="~")
    if len(escaped) <= 238:
        return escaped
    digest = base64.urlsafe_b64encode(hashlib.sha1(name.encode()).digest()).decode().rstrip("=")
    return f"{escaped[:208]}%24{digest}"


def name_of(path):
    """The collection of a file with documents."""
    description = path.with_name(path.name[:-5] + ".metadata.json")
    if description.exists():
        return json.loads(description.read_text())["collectionName"]
    return unquote_plus(path.name[:-5])


def pack(directory, archive, compressed):
    bodies, described = {}, []
    for path in sorted(directory.rglob("*")):
        if path.name == "oplog.bson":
            bodies["", "oplog"] = path.read_bytes()
            described.append({"db": "", "collection": "oplog", "metadata": "", "size": 0, "type": ""})
        elif path.name.endswith(".bson"):
            bodies[path.parent.name, name_of(path)] = path.read_bytes()
        elif path.name.endswith(".metadata.json"):
            text = path.read_text()
            parsed = json.loads(text)
            name, kind = parsed["collectionName"], parsed["type"]
            described.append({"db": path.parent.name, "collection": name, "metadata": text, "size": 0, "type": kind})
            if kind == "view":
                bodies.setdefault((path.parent.name, name), b"")
    for (db, name), _ in bodies.items():
        prefix = "system.buckets."
        known = [(one["db"], one["collection"]) for one in described]
        if (db, name) not in known and (db, name.removeprefix(prefix)) not in known:
            described.append({"db": db, "collection": name, "metadata": "", "size": 0, "type": ""})
    with (gzip.open if compressed else open)(archive, "wb") as out:
        out.write(MAGIC)
        header = {"concurrent_collections": 4, "version": "0.1", "server_version": "4.4.29", "tool_version": "100.9.4"}
        out.write(document(header) + b"".join(map(document, described)) + END)
        waiting = {key: list(documents(body)) for key, body in bodies.items()}
        sums = dict.fromkeys(waiting, 0)
        while waiting:
            for key in list(waiting):
                # Every collection takes its turn.
                turn, waiting[key] = waiting[key][:100], waiting[key][100:]
                block = {"db": key[0], "collection": key[1], "EOF": False, "CRC": (0,)}
                body = b"".join(turn)
                sums[key] = crc64(body, sums[key])
                out.write(document(block) + body + END)
                if not waiting[key]:
                    block |= {"EOF": True, "CRC": (sums[key],)}
                    out.write(document(block) + END)
                    del waiting[key]


def unpack(archive, directory):
    data = archive.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    assert data[:4] == MAGIC, "no archive"
    at = 4

    def following():
        nonlocal at
        if data[at : at + 4] == END:
            at += 4
            return None
        (size,) = struct.unpack_from("<i", data, at)
        assert size >= 5 and at + size <= len(data), f"truncated at {at}"
        found = data[at : at + size]
        at += size
        return found

    header = fields(following())
    assert header["version"] == "0.1" and header["server_version"], header
    expected = set()
    while (found := following()) is not None:
        described = fields(found)
        db, name, kind = described["db"], described["collection"], described["type"]
        expected.add((db, ("system.buckets." if kind == "timeseries" else "") + name))
        if described["metadata"]:
            path = directory / db / f"{stem(name)}.metadata.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(described["metadata"])
    bodies, ended, open_ones = {}, set(), set()
    while at < len(data):
        block = fields(following())
        key = block["db"], block["collection"]
        assert key not in ended, f"{key} goes on behind its end"
        body = []
        while (found := following()) is not None:
            body.append(found)
        bodies[key] = bodies.get(key, b"") + b"".join(body)
        open_ones.add(key)
        # The header limits the number of collections that are open at a time.
        assert len(open_ones) <= header["concurrent_collections"], open_ones
        if block["EOF"]:
            assert not body and block["CRC"] == crc64(bodies[key]), f"checksum of {key}"
            ended.add(key)
            open_ones.discard(key)
    assert ended == expected, ended ^ expected
    for (db, name), body in bodies.items():
        path = directory / db / f"{stem(name)}.bson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def main(verb, source, target, *more):
    if verb == "pack":
        pack(Path(source), Path(target), "--gzip" in more)
    else:
        unpack(Path(source), Path(target))


main(*sys.argv[1:])
