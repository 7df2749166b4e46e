"""Makes the section about reading text of benchmarks/results/README.md from a record of ocr_benchmark.py."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "core-8": "this core, 8 bits (as shipped)",
    "core-32": "this core, float32",
    "rapidocr": "rapidocr, the published networks in onnxruntime",
    "tesseract": "Tesseract, told the language",
}
_METRICS = {
    "cer": "CER",
    "line_cer": "CER, matched lines",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "exact_lines": "lines without an error",
}


def section_of(record: dict[str, Any]) -> str:
    """Markdown: circumstances, error rates, paired differences, parts, times and memory."""
    accuracy, speed = record["accuracy"], record.get("speed", {})
    readers = [name for name in _NAMES if name in accuracy["readers"]]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        "# Reading text",
        "",
        f"Made by `{record['command'].split(' ')[0]}` on {record['date']}, commit {record['commit']}"
        + (" with uncommitted changes" if record["uncommitted_changes"] else "")
        + f"; {record['cpu']}, {record['cpus_usable']} CPUs; kernels {record['isa']}; {versions};"
        + f" {accuracy['readers']['tesseract']['version']}.",
        "",
        f"{accuracy['pages']} pictures with {accuracy['lines']} lines: drawn pages in 8 languages and 7 kinds, pages of"
        " Debian documents, a scan. In per cent, 95 % bootstrap intervals over pictures.",
        "",
        *_table(["", *_METRICS.values()], [
            [_NAMES[name], *(_percent(accuracy["readers"][name][metric]) for metric in _METRICS)] for name in readers
        ]),
        "",
        "Paired differences in points, the first minus the second; below 0 the first makes fewer errors.",
        "",
        *_table(["", "CER", "CER, matched lines", "F1"], [
            [names, *(_percent(difference[metric]) for metric in ("cer", "line_cer", "f1"))]
            for names, difference in accuracy["differences"].items()
        ]),
        "",
        *_parts(accuracy, readers),
        "Time of a page from picture file to lines, by the clock and of the processor; each reader in a process of its"
        " own, one after the other. Times as fast as rapidocr: sums over the pictures that both have read. On a busy"
        " machine (load well above the threads) only the processor's time says something.",
        "",
        *_speed_table(speed),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _parts(accuracy: dict[str, Any], readers: list[str]) -> list[str]:
    """CER and F1 by language and by kind."""
    lines = []
    for part, title in (("by_language", "language"), ("by_kind", "kind")):
        groups = accuracy["readers"][readers[0]][part]
        rows = []
        for group in groups:
            scores = [accuracy["readers"][name][part][group] for name in readers]
            cells = [f"{100 * each['cer']['value']:.2f} / {100 * each['f1']['value']:.1f}" for each in scores]
            rows.append([f"{group} ({groups[group]['pictures']})", *cells])
        lines += [f"CER / F1 by {title}:", "", *_table(["", *(name for name in readers)], rows), ""]
    return lines


def _speed_table(results: dict[str, Any]) -> list[str]:
    heads = ["", "threads", "pictures", "load", "ms, median", "times as fast", "processor ms, median"]
    heads += ["times as fast", "peak memory, MB"]
    rows = []
    for threads, readers in results.items():
        for name in (name for name in _NAMES if name in readers):
            each, rapid = readers[name], readers.get("rapidocr")
            cells = [_NAMES[name], threads, str(each["pages"]), f"{each['load_average_before']:.0f}"]
            for kind in ("page_ms", "page_cpu_ms"):
                cells.append(f"{each[f'{kind}_median']:.0f}")
                cells.append("" if rapid is None else _times_as_fast(each[kind], rapid[kind]))
            rows.append([*cells, f"{each['peak_mb']:.0f}"])
    return _table(heads, rows)


def _times_as_fast(times: dict[str, float], baseline: dict[str, float]) -> str:
    """Sums over the pictures that both have read."""
    both = times.keys() & baseline.keys()
    return f"{sum(baseline[key] for key in both) / sum(times[key] for key in both):.2f}" if both else ""


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _percent(interval: dict[str, float]) -> str:
    return f"{100 * interval['value']:.2f} [{100 * interval['low']:.2f}, {100 * interval['high']:.2f}]"
