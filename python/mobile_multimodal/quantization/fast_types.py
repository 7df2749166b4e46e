"""Says which number types this CPU multiplies fast, so that training takes no emulated ones."""

from __future__ import annotations

import torch


def has_fast_bf16() -> bool:
    """Whether bf16 products have instructions of their own (AVX-512 or later); elsewhere float32 is 60 times faster."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fast_products() -> torch.autocast:
    """Autocast to bf16 where that is fast, else no change."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16())


def has_fast_int8() -> bool:
    """Whether int8 products have instructions of their own (VNNI)."""
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(name)) for name in ("avx512_vnni", "avx_vnni"))
