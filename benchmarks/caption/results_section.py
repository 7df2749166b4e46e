"""Makes the section about captions of benchmarks/results/README.md from a record of caption_benchmark.py."""

from __future__ import annotations

from typing import Any

_ROWS = {
    "resize_ms": "resize, ms",
    "encode_ms": "encode the picture, ms",
    "prefill_ms": "keys and values of the picture, ms",
    "first_token_ms": "until the first token, ms",
    "per_token_greedy_ms": "per token, greedy, ms",
    "per_token_beam_3_ms": "per token, 3 beams, ms",
    "caption_greedy_ms": "whole caption, greedy, ms",
    "caption_beam_3_ms": "whole caption, 3 beams, ms",
    "generate_caption_from_jpeg_bytes_ms": "the same from the bytes of a JPEG, ms",
    "process_start_to_ready_ms": "process start until the model is ready, ms",
    "process_start_to_first_caption_ms": "process start until the first caption, ms",
    "peak_resident_memory_mb": "peak resident memory of that process, MB",
    "encode_image_program_ms": "encoder, this core, ms",
    "onnxruntime_fp32_encoder_ms": "encoder, onnxruntime float32, taking turns, ms",
}


def section_of(record: dict[str, Any]) -> str:
    """Markdown: the circumstances, then a row a quantity and two columns a thread count."""
    threads = list(record["results"])
    model = record["model"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    heads = [f"{count} thread{'s' if count != '1' else ''}, {what}" for count in threads for what in ("median", "p95")]
    lines = [
        "# Captions",
        "",
        f"Made by `{record['command']}` on {record['date']}, commit {record['commit']}"
        + (" with uncommitted changes" if record["uncommitted_changes"] else "")
        + f"; {record['cpu']}, {record['cpus_usable']} CPUs, load {record['load_average_before']:.1f} before the run"
        + (" (the benchmark itself at real-time priority);" if record["real_time_priority"] else ";")
        + f" kernels {record['isa']}; {versions}.",
        f"Model `{model['file']}`, {model['bytes'] / 1e6:.2f} MB. {len(record['pictures'])} pictures,"
        + f" {record['rounds']} rounds.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for key, name in _ROWS.items():
        if all(key in record["results"][count] for count in threads):
            cells = [f"{record['results'][count][key][what]:.2f}" for count in threads for what in ("median", "p95")]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
