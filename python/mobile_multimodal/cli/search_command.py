"""Finds pictures by words or by a picture: `mobile-mm search "a dog on the beach"`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from mobile_multimodal.cli.index_place import find_index
from mobile_multimodal.cli.search_page import write_search_page
from mobile_multimodal.errors import InvalidInputError
from mobile_multimodal.gallery import Gallery, GalleryHit, SearchSettings
from mobile_multimodal.gallery.searching import SearchOptions
from mobile_multimodal.model.hub import DEFAULT_MODEL
from mobile_multimodal.settings import settings_from
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM


def add_search_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `mobile-mm search` takes."""
    parser.add_argument("query", nargs="?", metavar="TEXT", help="what the pictures show, in words")
    parser.add_argument("--like", metavar="PICTURE", help="find pictures like this one instead")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="at most this many (default: %(default)s)")
    parser.add_argument("--folder", metavar="FOLDER", help="only below this folder of the gallery")
    parser.add_argument("--since", metavar="DATE", help="taken on or after: YYYY, YYYY-MM or YYYY-MM-DD")
    parser.add_argument("--until", metavar="DATE", help="taken on or before, the same way")
    parser.add_argument(
        "--index", metavar="PLACE", help="the index, or its folder (default: around the working folder, or the last)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print one JSON object a picture")
    output.add_argument("--html", metavar="PAGE", help="write a page with the pictures")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or .gguf file (default: %(default)s)")
    parser.add_argument("--threads", type=int, metavar="N", help="0 is every CPU (the default)")


def run_search(arguments: argparse.Namespace) -> int:
    """Prints pictures to stdout, best first; returns the exit code."""
    if (arguments.query is None) == (arguments.like is None):
        raise InvalidInputError(
            "a search takes either TEXT or --like PICTURE", 'for example `mobile-mm search "a dog on the beach"`'
        )
    options: SearchOptions = {
        "k": arguments.k,
        "folder": arguments.folder,
        "since": arguments.since,
        "until": arguments.until,
    }
    settings_from(SearchSettings, options)  # a wrong setting is refused before a model is loaded
    index = find_index(arguments.index)
    if arguments.html is not None:
        _check_page(Path(arguments.html))
    with (
        MobileMultiModalLLM.from_pretrained(arguments.model, threads=arguments.threads, profile="balanced") as model,
        Gallery.open(index, model) as gallery,
    ):
        if arguments.like is None:
            hits = gallery.search_text(arguments.query, **options)
        else:
            hits = gallery.search_picture(arguments.like, **options)
        pictures = len(gallery)
    if arguments.html is not None:
        query = arguments.query if arguments.like is None else f"like {os.fspath(arguments.like)}"
        write_search_page(Path(arguments.html), query, hits, pictures=pictures)
        print(arguments.html)
    else:
        for hit in hits:
            print(_line(hit, as_json=arguments.json), flush=True)
    return 0


def _line(hit: GalleryHit, *, as_json: bool) -> str:
    return json.dumps(hit.to_dict(), ensure_ascii=False) if as_json else f"{hit.score:.3f} {hit.path}"


def _check_page(page: Path) -> None:
    if page.suffix.lower() not in (".html", ".htm"):  # a slip must not write over a picture
        raise InvalidInputError(f"option --html is {str(page)!r}, expected a name in .html", "for example found.html")
