"""GDPO in which rewards that vary in few prompt groups count more. DARA, arXiv 2610.00574.

pi_k = share of the prompt groups in which reward k varies        c_k = min(w_max, sqrt(max_l pi_l / pi_k))
form asym:  A_j = batch_norm(sum_k w_k (A_kj + (c_k - 1) max(A_kj, 0)))        only what it praises counts more
form sym:   A_j = batch_norm(sum_k w_k c_k A_kj)

Over a batch of B groups of G, reward k's advantages have the energy sum_j A_kj^2 = B pi_k (G - 1), so that c_k makes
those of all rewards equal, up to w_max. pi_k is of the groups with two scores of k or more: one to which a reward isn't
applicable says nothing of how often it varies. All c_k = 1 is GDPO.
"""

import torch

from mrpo.advantages.batch import RewardBatch
from mrpo.advantages.estimators import ESTIMATORS
from mrpo.advantages.result import Estimate
from mrpo.config.estimators import DaraConfig


@ESTIMATORS.register("dara")
def dara(batch: RewardBatch) -> Estimate:
    options, advantages_NK = batch.options(DaraConfig), batch.component_advantages_NK
    density_K = batch.density_K.nan_to_num(nan=0.0)
    ratio_K = (density_K.amax() if len(density_K) else density_K) / density_K
    scale_K = torch.where(density_K > 0, ratio_K.sqrt().clamp(max=options.w_max), 1.0)
    extra_NK = advantages_NK if options.form == "sym" else advantages_NK.clamp(min=0)
    return Estimate(
        batch.weights_K * (advantages_NK + (scale_K - 1) * extra_NK),
        batch_norm="sequence",
        diagnostics={
            f"reward/{name}/dara_scale": scale for name, scale in zip(batch.config.names, scale_K.tolist(), strict=True)
        },
    )
