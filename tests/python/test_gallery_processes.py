"""Kills writers at random moments, and lets readers search while a writer writes: nothing committed is lost or torn."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gallery_embedders import ThumbnailEmbedder, draw_picture

from mobile_multimodal.gallery import INDEX_NAME, Gallery
from mobile_multimodal.gallery.files import find_pictures
from mobile_multimodal.gallery.vectors import quantize

pytest.importorskip("mobile_multimodal.native")

TESTS = Path(__file__).resolve().parent
PICTURES = 160
KILLS = 15

HANG_SECONDS = 900  # no promise about speed: only a test that hangs ends by it

# Commits of 4 pictures instead of 64: more of them for a kill to hit. With a third argument the writer waits for a line
# after its first commit.
_WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from gallery_embedders import ThumbnailEmbedder
from mobile_multimodal.gallery import Gallery, indexing
indexing.BATCH_PICTURES = 4
waits = sys.argv[3:]
def tell(path, outcome):
    print(outcome, path.name, flush=True)
    if waits:
        waits.clear()
        sys.stdin.readline()
with Gallery.create(sys.argv[1], ThumbnailEmbedder()) as gallery:
    print("ready", flush=True)
    gallery.update(on_result=tell)
    print("done", flush=True)
"""

_READER = """
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from gallery_embedders import ThumbnailEmbedder
from mobile_multimodal.gallery import Gallery
embedder = ThumbnailEmbedder()
seen, searches = [0], 0
with Gallery.open(sys.argv[1], embedder) as gallery:
    print("ready", flush=True)
    while seen[-1] < int(sys.argv[3]):
        hits = gallery.search_text("x", k=1000)
        searches += 1
        query = embedder.embed_text("x")
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert len({hit.path for hit in hits}) == len(hits)
        assert len(hits) % 4 == 0, f"{len(hits)} pictures: half a commit was seen"
        if hits:
            hit = hits[searches % len(hits)]
            assert abs(float(query @ embedder.embed_image(hit.path)) - hit.score) < 0.01, hit
        assert len(hits) >= seen[-1], "a commit was lost"
        if seen[-1] != len(hits):
            seen.append(len(hits))
            print(len(hits), flush=True)
"""


def _start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(PICTURES):
        draw_picture(index).save(tmp_path / f"{index:03}.png")
    return tmp_path


def _check_index(folder: Path) -> set[str]:
    """Names in the index, after its pages, its references and each of its vectors were checked."""
    with sqlite3.connect(folder / INDEX_NAME) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        unused = "SELECT count(*) FROM contents WHERE id NOT IN (SELECT content FROM pictures)"
        assert connection.execute(unused).fetchone() == (0,)
        rows = connection.execute(
            "SELECT path, scale, codes FROM pictures JOIN contents ON contents.id = pictures.content"
        ).fetchall()
    connection.close()
    embedder = ThumbnailEmbedder()
    for name, scale, codes in rows:
        assert (scale, codes) == quantize(embedder.embed_image(folder / os.fsdecode(name)))
    return {os.fsdecode(name) for name, _, _ in rows}


def test_kill_9_while_adding_loses_nothing_committed(folder: Path) -> None:
    chance = random.Random(9)
    promised: set[str] = set()
    killed_between = 0
    for kill in range(KILLS):
        writer = _start(_WRITER, folder, TESTS)
        assert writer.stdout is not None
        lines = chance.randrange(0, 14)
        if kill % 5 == 4:  # before the index is open, too
            time.sleep(chance.random() * 0.5)
        else:
            for line in writer.stdout:
                lines -= line.startswith("added")
                promised |= {line.split()[1]} if line.startswith("added") else set()
                if lines <= 0 and line != "ready\n":
                    break
            time.sleep(chance.random() * 0.02)
        writer.kill()
        rest, _ = writer.communicate()
        # The last line may be cut off by the kill; a name in a whole line was in the index when it was printed.
        promised |= {line.split()[1] for line in rest.split("\n")[:-1] if line.startswith("added")}
        if (folder / INDEX_NAME).exists() and promised:
            found = _check_index(folder)
            assert promised <= found
            assert len(found) % 4 == 0, "a part of a commit is in the index"
            killed_between += len(found) < PICTURES
    assert killed_between >= KILLS / 2, "the writer was killed when it was done: nothing was tested"
    writer = _start(_WRITER, folder, TESTS)
    out, err = writer.communicate(timeout=HANG_SECONDS)
    assert (writer.returncode, err) == (0, "")
    assert out.endswith("done\n")
    assert out.count("unchanged") >= len(promised)
    assert _check_index(folder) == {path.name for path in find_pictures(folder)[0]}
    with Gallery.open(folder, ThumbnailEmbedder()) as gallery:
        assert len(gallery.search_text("x", k=1000)) == PICTURES


def test_two_readers_and_a_writer(folder: Path) -> None:
    Gallery.create(folder, ThumbnailEmbedder()).close()
    readers = [_start(_READER, folder, TESTS, PICTURES) for _ in range(2)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    writer = _start(_WRITER, folder, TESTS, "waits")
    for reader in readers:  # both see the first commit while the writer is in the middle of its work
        assert reader.stdout is not None
        assert reader.stdout.readline() == "4\n"
    out, err = writer.communicate("\n", timeout=HANG_SECONDS)
    assert (writer.returncode, err) == (0, "")
    assert out.endswith("done\n")
    for reader in readers:
        out, err = reader.communicate(timeout=HANG_SECONDS)
        assert (reader.returncode, err) == (0, "")
        assert int(out.split()[-1]) == PICTURES


def test_two_writers_take_turns(folder: Path) -> None:
    writers = [_start(_WRITER, folder, TESTS) for _ in range(2)]
    for writer in writers:
        out, err = writer.communicate(timeout=HANG_SECONDS)
        assert (writer.returncode, err) == (0, "")
        assert out.endswith("done\n")
    assert _check_index(folder) == {path.name for path in find_pictures(folder)[0]}


def test_a_reader_of_a_folder_that_may_not_be_written(folder: Path, tmp_path: Path) -> None:
    """As another user, where the tests run as root: root may write everywhere."""
    with Gallery.create(folder, ThumbnailEmbedder()) as gallery:
        gallery.add(find_pictures(folder)[0][:8])
    program = f"""
import os, sys
sys.path.insert(0, {str(TESTS)!r})
from gallery_embedders import ThumbnailEmbedder
from mobile_multimodal import InvalidInputError
from mobile_multimodal.gallery import Gallery
ThumbnailEmbedder().embed_text("x")  # all modules are loaded while they may be read
os.chdir({str(folder)!r})
for place in [{str(folder)!r}, *map(str, __import__("pathlib").Path({str(folder)!r}).parents)][:3]:
    os.chmod(place, 0o555)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
assert not os.access(".", os.W_OK)
with Gallery.open(".", ThumbnailEmbedder()) as gallery:
    assert len(gallery.search_text("x", k=100)) == 8
try:
    Gallery.create(".", ThumbnailEmbedder())
except InvalidInputError as error:
    assert "cannot be read or written" in error.message, error
    assert "--index" in error.hint, error
else:
    raise SystemExit("an index was written")
"""
    places = [folder, *folder.parents][:3]
    modes = [place.stat().st_mode for place in places]
    try:
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    finally:
        for place, mode in zip(places, modes, strict=True):
            place.chmod(mode)
    assert (run.returncode, run.stderr) == (0, "")
