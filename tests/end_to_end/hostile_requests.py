"""Makes requests that a server must refuse or survive: broken pictures, bombs, wrong types, bad tokens."""

from __future__ import annotations

import io
import itertools
import json
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from request_bodies import picture_body

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURE = (ROOT / "examples/pictures/boats.jpg").read_bytes()
PAGE = (ROOT / "examples/pages/invoice.png").read_bytes()
ROUTES = ("/v1/caption", "/v1/ocr", "/v1/ask", "/v1/embed", "/v1/inference")


@dataclass(frozen=True)
class Hostile:
    """One request; `name` says what is wrong with it."""

    name: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def hostile_requests(count: int, seed: int) -> Iterator[Hostile]:
    """So many requests of every kind in turn; the same seed gives the same ones."""
    chance = random.Random(seed)
    kinds = itertools.cycle(
        (
            broken_pictures(chance),
            broken_pictures(chance),
            pictures_of_other_kinds(),
            wrong_types(chance),
            huge_texts(),
            broken_documents(),
            bad_tokens(chance),
        )
    )
    for kind in itertools.islice(kinds, count):
        yield next(kind)


def broken_pictures(chance: random.Random) -> Iterator[Hostile]:
    """Truncated anywhere, or with bytes changed."""
    for turn in itertools.count():
        source = (PICTURE, PAGE)[turn % 2]
        if chance.random() < 0.5:
            length = chance.randrange(len(source))
            name, data = f"truncated at {length}", source[:length]
        else:
            changed = bytearray(source)
            places = [chance.randrange(len(changed)) for _ in range(chance.choice((1, 8, 64)))]
            for place in places:
                changed[place] = chance.randrange(256)
            name, data = f"changed at {sorted(places)[:4]}", bytes(changed)
        route = ROUTES[turn % 4]
        yield Hostile(
            name, route, picture_body(data, **({"question": "Is there a dog?"} if route == "/v1/ask" else {}))
        )


def pictures_of_other_kinds() -> Iterator[Hostile]:
    """Bombs, animations, formats that are not allowed, and what only calls itself a picture."""
    pictures = {
        "a bomb of a gigapixel": _png_of(40_000, 30_000),
        "a bomb that unpacks to 100 MB": _png_of(10_000, 10_000),
        "a picture without pixels": _png_of(0, 0),
        "a line of a million pixels": _png_of(1_000_000, 1),
        "an animation": _animation(),
        "an SVG with a script": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "a page": b"<html><body>no picture</body></html>",
        "nothing": b"",
        "zeros": bytes(100_000),
        "a TIFF": _encoded("TIFF"),
        "an icon": _encoded("ICO"),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }
    for turn, (name, data) in enumerate(itertools.cycle(pictures.items())):
        yield Hostile(name, ROUTES[turn % 2], picture_body(data))


def wrong_types(chance: random.Random) -> Iterator[Hostile]:
    """A field of the right name and a wrong kind."""
    good = json.loads(picture_body(PICTURE))["image"]
    values = [None, True, 0, -1, 1e308, "", "x", [], {}, [[]], {"a": {"b": []}}, "\u0000", "💥" * 100]
    fields = ["image", "task", "question", "options", "text", "parameters", "deadline_seconds", "model", "stream"]
    while True:
        name, value = chance.choice(fields), chance.choice(values)
        body = {"image": good, "task": chance.choice(["caption", "vqa", "embed", "dance"])} | {name: value}
        yield Hostile(f"{name} = {value!r}", chance.choice(ROUTES), json.dumps(body).encode())


def huge_texts() -> Iterator[Hostile]:
    """Prompts without an end."""
    good = json.loads(picture_body(PICTURE))["image"]
    bodies: dict[str, tuple[str, dict[str, object]]] = {
        "a question of a megabyte": ("/v1/ask", {"image": good, "question": "why " * 250_000}),
        "100,000 options": ("/v1/ask", {"image": good, "question": "which", "options": ["x"] * 100_000}),
        "a text of a megabyte": ("/v1/embed", {"text": "\u202e" * 300_000}),
        "a setting of 400 digits": ("/v1/caption", {"image": good, "parameters": {"num_beams": 10**400}}),
        "a million beams": ("/v1/caption", {"image": good, "parameters": {"num_beams": 1_000_000}}),
        "a deadline of a century": ("/v1/caption", {"image": good, "deadline_seconds": 3e9}),
        "a deadline in the past": ("/v1/caption", {"image": good, "deadline_seconds": -1}),
        "a chat of 10,000 messages": (
            "/v1/chat/completions",
            {"model": "mobile-mm-llm-int2", "messages": [{"role": "user", "content": "hi"}] * 10_000},
        ),
        "a picture at an address inside": ("/v1/caption", {"image": "http://169.254.169.254/latest/meta-data"}),
        "a picture in a file": ("/v1/caption", {"image": "file:///etc/passwd"}),
    }
    for name, (path, body) in itertools.cycle(bodies.items()):
        yield Hostile(name, path, json.dumps(body).encode())


def broken_documents() -> Iterator[Hostile]:
    """What is not JSON, or not a form, or not what it says it is."""
    form = "multipart/form-data; boundary=x"
    bodies = {
        "no JSON": (b"{", "application/json"),
        "half a string": (b'{"image": "abc', "application/json"),
        "brackets 100,000 deep": (b"[" * 100_000, "application/json"),
        "objects 20,000 deep": (b'{"image":' * 20_000 + b"1" + b"}" * 20_000, "application/json"),
        "no UTF-8": (b'{"image": "\xff\xfe"}', "application/json"),
        "not a number": (b'{"image": NaN}', "application/json"),
        "the same name twice": (b'{"image": "QUJD", "image": 1}', "application/json"),
        "a form without an end": (b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc', form),
        "a form without a boundary": (b"abc", "multipart/form-data"),
        "a form of 3,000 fields": (
            b"".join(b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n1\r\n' % i for i in range(3000))
            + b"--x--",
            form,
        ),
        "a picture as it is": (PICTURE, "image/jpeg"),
        "no type": (b"abc", ""),
        "XML": (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "application/xml"),
    }
    for turn, (name, (body, kind)) in enumerate(itertools.cycle(bodies.items())):
        yield Hostile(name, ROUTES[turn % len(ROUTES)], body, {"Content-Type": kind} if kind else {})


def bad_tokens(chance: random.Random) -> Iterator[Hostile]:
    """Keys and tokens that are none; each replaces the good key of the other requests."""
    body = picture_body(PICTURE)
    json_type = {"Content-Type": "application/json"}
    unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."
    for turn in itertools.count():
        token = (
            "Bearer " + "".join(chance.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(43)),
            f"Bearer {unsigned}",
            "Bearer " + "a." * 1000 + "b",
            "Bearer ",
            "Basic YWRtaW46YWRtaW4=",
            "Bearer " + "A" * 8000,
            "Bearer \u00e9\u00e8",
            "\u00ff" * 10,
        )[turn % 8]
        yield Hostile(f"token {token[:24]!r}", "/v1/caption", body, json_type | {"Authorization": token})


def _png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large; its pixels are a few kilobytes of packed zeros."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    row_bytes = min((width + 1) * height, 4_000_000)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(row_bytes), 9)), (b"IEND", b""))
    )


def _encoded(format_name: str) -> bytes:
    packed = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(packed, format_name)
    return packed.getvalue()


def _animation() -> bytes:
    frames = [Image.new("P", (200, 200), index) for index in range(200)]
    packed = io.BytesIO()
    frames[0].save(packed, "GIF", save_all=True, append_images=frames[1:])
    return packed.getvalue()
