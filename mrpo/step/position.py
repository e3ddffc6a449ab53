"""Where a run is in its data: the owner of how many prompts were fetched, for the loader that hands them out."""

from __future__ import annotations

from typing import Any

from mrpo.budget.ids import prompt_uid
from mrpo.step.seam import Prompts, Seam


class Position:
    """Names prompts by content and draw, the same in every run of a seed."""

    def __init__(self, seam: Seam):
        self.seam = seam
        self.prompts_fetched = 0

    def uids(self, prompts: Prompts) -> list[str]:
        """A uid for each of the prompts, which were fetched just now."""
        contents = prompts.contents_G
        first, self.prompts_fetched = self.prompts_fetched, self.prompts_fetched + len(contents)
        return [prompt_uid(*content, draw=first + i) for i, content in enumerate(contents)]

    def state_dict(self) -> dict[str, Any]:
        return {"prompts_fetched": self.prompts_fetched, "loader": self.seam.loader_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.prompts_fetched = state["prompts_fetched"]
        self.seam.load_loader_state(state["loader"])
