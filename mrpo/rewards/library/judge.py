"""What a language model says of the response, asked through an OpenAI-compatible server."""

from __future__ import annotations

import re
from typing import Any

from mrpo.rewards.library._server import Server
from mrpo.rewards.outcome import RewardError

TEMPLATE = """Judge how well the response answers the prompt.

Prompt:
{prompt}

Response:
{response}

Reference answer:
{ground_truth}

Reason briefly, then end with a line "Score: N", N from 0 (useless) to 10 (perfect)."""

LAST_NUMBER = r"(?<![\w.])(-?\d+(?:\.\d+)?)(?:\s*(?:/|out of)\s*\d+)?"
"""A number, with a following "/10" or "out of 10" taken along so that it isn't the last number."""


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


class judge:
    """The last number in the model's answer, mapped linearly from ``scale`` to [0, 1]. An answer without one, or one
    outside the scale, is a failure.

    Args:
        url: the server's base URL, ending in ``/v1``.
        model: its name there.
        template: the message, with ``{prompt}``, ``{response}`` and ``{ground_truth}``. What a response says to the
            judge reaches it, too.
        pattern: regular expression whose first group is the number; its last match counts.
        scale: lowest and highest number that the template asks for.
        token_env: environment variable that holds the API key. Default: none is sent but a dummy.
        temperature: 0: the likeliest answer.
        max_tokens: longest answer; one that is cut off is a failure.
        retries: requests after the first, on failed connections, 408, 409, 429 and 5xx, within the reward's timeout.
        rate: maximum of calls begun per second in each of the reward's processes, retries not counted.
        concurrency: maximum of calls at once in each of the reward's processes.

    Raises:
        RewardError: ``judge``: no number, or none on the scale; ``server``: it can't be reached or refuses.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        template: str = TEMPLATE,
        pattern: str = LAST_NUMBER,
        scale: tuple[float, float] = (0.0, 10.0),
        token_env: str | None = None,
        temperature: float = 0.0,
        max_tokens: int = 1024,
        retries: int = 3,
        rate: float | None = None,
        concurrency: int = 64,
    ):
        self.low, self.high = scale
        if not self.low < self.high:
            raise ValueError(f"scale: given {list(scale)}, allowed: [low, high] with low < high")
        self.pattern = re.compile(pattern)
        if self.pattern.groups < 1:
            raise ValueError(f"pattern: given {pattern!r}, allowed: a regular expression with a group")
        self.model, self.template, self.temperature, self.max_tokens = model, template, temperature, max_tokens
        self.rate, self.concurrency = rate, concurrency
        self.server = Server(url, retries=retries, token_env=token_env)

    async def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> float:
        parts = {"prompt": as_text(prompt), "response": response, "ground_truth": str(ground_truth)}
        try:
            answer = await self.server.client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": fill(self.template, parts)}],
                temperature=self.temperature,
                max_tokens=self.max_tokens,
            )
            choice = answer.choices[0]
            said, cut = choice.message.content or "", choice.finish_reason == "length"
        except self.server.errors as error:
            raise self.server.failure(error) from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise RewardError("server", f"not a chat completion: {type(error).__name__}: {error}") from error
        if cut:
            raise RewardError("judge", f"cut off after {self.max_tokens} tokens: {said[-200:]!r}")
        return self.read(said)

    def read(self, said: str) -> float:
        """The score, from 0 to 1, in the model's answer."""
        matches = list(self.pattern.finditer(said))
        try:
            number = float(matches[-1].group(1))
        except (IndexError, TypeError, ValueError):
            raise RewardError("judge", f"no score in {said[-200:]!r}") from None
        if not self.low <= number <= self.high:
            raise RewardError("judge", f"{number:g} is not on the scale [{self.low:g}, {self.high:g}]: {said[-200:]!r}")
        return (number - self.low) / (self.high - self.low)


def fill(template: str, parts: dict[str, str]) -> str:
    """The template with its parts put in at once, so that braces in a part, or elsewhere, stay what they are."""
    return re.sub(r"\{(" + "|".join(parts) + r")\}", lambda match: parts[match.group(1)], template)


def as_text(prompt: Any) -> str:
    """A chat as text: its only message, or each after its role."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0]["content"])
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
