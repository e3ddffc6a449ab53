"""Which attention the quickstart's rank and engine have used, and vLLM's flash attention against torch's own."""

from __future__ import annotations

import re
from pathlib import Path

from tests.gpu.part import Context
from tests.gpu.runs import has_flash_attention

CHOSEN = re.compile(
    r"Using (\w+) attention backend|Using (AttentionBackendEnum\.\w+) backend|Using FlashAttention version (\d)"
)


def attention(context: Context) -> None:
    ranks = "flash attention" if has_flash_attention() else "torch's sdpa, padded: there is no flash_attn here"
    context.report.figure("trainer rank", ranks)
    for dtype in ("float32", "bfloat16"):
        context.report.figure(f"engine, {dtype}", chosen(context.run_dir(f"quickstart_{dtype}") / "logs"))
    difference = against_torch()
    context.report.figure("vLLM's flash attention - torch's, bfloat16, largest", difference)
    context.report.require("bfloat16's rounding and no more", difference < 0.02)


def chosen(logs: Path) -> str:
    """What vLLM's log says, without repetitions."""
    found = (match.group(0) for file in sorted(logs.rglob("*")) if file.is_file() for match in _matches(file))
    return "; ".join(dict.fromkeys(found)) or "the log names none"


def _matches(file: Path) -> list[re.Match[str]]:
    return list(CHOSEN.finditer(file.read_text(errors="replace")))


def against_torch() -> float:
    """One causal sequence of 256 tokens, 8 heads of 64."""
    import torch
    from vllm.vllm_flash_attn import flash_attn_varlen_func

    torch.manual_seed(0)
    tokens = 256
    q, k, v = (torch.randn(tokens, 8, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    ends = torch.tensor([0, tokens], device="cuda", dtype=torch.int32)
    of_vllm = flash_attn_varlen_func(
        q,
        k,
        v,
        max_seqlen_q=tokens,
        cu_seqlens_q=ends,
        max_seqlen_k=tokens,
        cu_seqlens_k=ends,
        causal=True,
        fa_version=3,
    )
    q, k, v = (tensor.float().transpose(0, 1) for tensor in (q, k, v))
    of_torch = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1)
    return float((of_vllm.float() - of_torch).abs().max())
