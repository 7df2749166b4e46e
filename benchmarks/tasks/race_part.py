"""The part of whole tasks: captions and pages in this core and its peers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from race.contestant import Entry
from race.heat_record import Work, heat_record
from race.peers import PeerList
from race.rounds import Heat, run_heat
from race.settings import RaceSettings

_OURS = "ours"
CAPTION_WORKS = {
    "caption_beam_3": Work("caption, 3 beams", 1, "captions"),
    "caption_greedy": Work("caption, greedy", 1, "captions"),
}


def measure(settings: RaceSettings, peers: PeerList) -> dict[str, Any]:
    """Heats and checks for the record."""
    heats: list[dict[str, Any]] = []
    checks: dict[str, Any] = {}
    for threads in settings.threads:
        if peers.has("PyTorch", "encoder weights", "gguf"):
            heats.append(_captions(settings, peers, threads, checks))
        heats += _pages(settings, peers, threads, checks)
    return {"heats": heats, "checks": checks}


def _captions(settings: RaceSettings, peers: PeerList, threads: int, checks: dict[str, Any]) -> dict[str, Any]:
    model = {"model": str(settings.model)}
    entries = [
        Entry(_OURS, "tasks.caption_engines:open_core", model),
        Entry("PyTorch eager float32", "tasks.caption_engines:open_pytorch", model),
    ]
    if peers.has("onnxruntime"):
        entries.append(Entry("onnxruntime float32", "tasks.caption_engines:open_onnxruntime", model))
    # Each picture once a turn.
    runs = {"caption_beam_3": 7} if settings.is_quick else {"caption_beam_3": 7, "caption_greedy": 7}
    seconds, rounds = settings.heat(40.0, 6.0)
    heat = run_heat(
        entries,
        runs,
        threads=threads,
        seconds=seconds,
        rounds=rounds,
        label="captions",
        with_answers=not settings.is_quick,
    )
    rivals = {entry.name: _OURS for entry in entries[1:]}
    checks[f"equal captions, {threads} threads"] = {
        name: {
            workload: round(float((rows == heat.answers[_OURS][workload]).all(axis=1).mean()), 3)
            for workload, rows in heat.answers[name].items()
        }
        for name in rivals
        if heat.answers
    }
    return heat_record("captions", heat, {name: CAPTION_WORKS[name] for name in runs}, rivals)


def _pages(settings: RaceSettings, peers: PeerList, threads: int, checks: dict[str, Any]) -> list[dict[str, Any]]:
    has_rapidocr, has_tesseract = peers.has("rapidocr", "onnxruntime"), peers.has("Tesseract")
    if not has_rapidocr and not has_tesseract:
        return []
    from tasks.page_engines import PAGES, drawn_pages
    from vision.networks import float_file

    folder = drawn_pages(1 if settings.is_quick else 2)
    pages = {"pages": str(folder)}
    entries = [Entry(_OURS, "tasks.page_engines:open_core", {**pages, "model": str(settings.model)})]
    if has_rapidocr:
        networks = {"networks": str(float_file("detect_640").parent)}
        # 1 line at a time is how tinyocr sets it, 6 is rapidocr's own default: which is faster depends on the lines.
        entries += [
            Entry(
                f"rapidocr, {lines} line{'s' if lines > 1 else ''} at a time",
                "tasks.page_engines:open_rapidocr",
                {**pages, **networks, "batch_lines": lines},
            )
            for lines in ((6,) if settings.is_quick else (1, 6))
        ]
    if has_tesseract and not settings.is_quick:
        entries.append(Entry("Tesseract", "tasks.page_engines:open_tesseract", pages))
    count = len((folder / "pages.jsonl").read_text(encoding="utf-8").splitlines())
    seconds, rounds = settings.heat(40.0, 8.0)
    heat = run_heat(
        entries,
        {PAGES: 1},
        threads=threads,
        seconds=seconds,
        rounds=rounds,
        label="pages",
        with_answers=not settings.is_quick,
    )
    checks[f"lines found (F1) and character error rate, {threads} threads"] = _scores(heat, folder)
    works = {PAGES: Work(f"{count} pages", count, "pages")}
    return [heat_record("pages", heat, works, {entry.name: _OURS for entry in entries[1:]})]


def _scores(heat: Heat, folder: Path) -> dict[str, dict[str, float]]:
    from mobile_multimodal.evaluation.ocr import score_readings
    from mobile_multimodal.evaluation.ocr_pages import PageFolder, PlacedText, box_from

    pages = PageFolder(folder).pages()
    scores = {}
    for name, answer in heat.answers.items():
        readings = [
            [PlacedText(text, box_from(box)) for text, box in lines]
            for lines in json.loads(answer["readings"].tobytes())
        ]
        found = score_readings(pages, readings).scores
        scores[name] = {"f1": round(float(found.f1.value), 4), "cer": round(float(found.cer.value), 4)}
    return scores
