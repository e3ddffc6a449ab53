"""What single tokens of a few rows say, how likely they were, and their advantages. Shapes: T tokens of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from mrpo.record.token_file import RolloutTokens
from mrpo.verl_seam.rank_rows import ADVANTAGE
from mrpo.verl_seam.rows import Columns, VerlBatch, fetch
from mrpo.verl_seam.text import ResponseDecoder

FIELDS = ("responses", "old_log_probs", "response_mask", "advantages", ADVANTAGE)
"""``advantages`` are there only with token modulation."""


def read_tokens(batch: VerlBatch, rows: Sequence[int], decoder: ResponseDecoder) -> Callable[[], list[RolloutTokens]]:
    """Tokens of those rows, once ``token_rows.write`` has given them their advantages: read at once, decoded when the
    result is called."""
    if not rows:
        return list
    columns = fetch(batch.handle, FIELDS, rows)
    return lambda: [tokens_of(columns, place, decoder) for place in range(len(rows))]


def tokens_of(columns: Columns, place: int, decoder: ResponseDecoder) -> RolloutTokens:
    """Of one row of ``FIELDS``."""
    advantage, keep = columns[ADVANTAGE][place].tolist()
    mask_T: torch.Tensor = columns["response_mask"][place].bool()
    modulated = columns.get("advantages")
    advantages_T = mask_T.float() * advantage if modulated is None else modulated[place]
    in_loss_T = mask_T & bool(keep)
    return RolloutTokens(
        decoder.pieces(columns["responses"][place].tolist()),
        columns["old_log_probs"][place].tolist(),
        (advantages_T * in_loss_T + 0.0).tolist(),  # never -0
        in_loss_T.tolist(),
    )
