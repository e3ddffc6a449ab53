"""The parts, in the order in which they run: what is quick first, and whoever looks at a run after it."""

from __future__ import annotations

from tests.gpu.part import Part
from tests.gpu.parts.advantages import advantages, token_modulation
from tests.gpu.parts.attention import attention
from tests.gpu.parts.doctor import doctor
from tests.gpu.parts.exported import exported
from tests.gpu.parts.half_billion import half_billion, memory
from tests.gpu.parts.imports import imports
from tests.gpu.parts.quickstart import bfloat16, float32
from tests.gpu.parts.repeated import resumed, strict

PARTS = (
    Part("doctor", 30, doctor),
    Part("imports", 90, imports),
    Part("advantages", 60, advantages),
    Part("token_modulation", 60, token_modulation),
    Part("quickstart_float32", 110, float32),
    Part("quickstart_bfloat16", 100, bfloat16),
    Part("half_billion", 130, half_billion, needs_gpu=True),
    Part("memory", 20, memory, needs_gpu=True),
    Part("attention", 30, attention, needs_gpu=True),
    Part("strict", 80, strict),
    Part("resumed", 120, resumed),
    Part("exported", 80, exported),
)
