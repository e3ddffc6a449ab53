"""What a language model says of the response, asked through an OpenAI-compatible server."""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import urlsplit

from mrpo.rewards.library._judgement import from_json, from_prose
from mrpo.rewards.library._server import Server
from mrpo.rewards.outcome import RewardError

logger = logging.getLogger(__name__)

TEMPLATE = """Judge how well the response answers the prompt.

Prompt:
{prompt}

Response:
{response}

Reference answer:
{ground_truth}

Score it from {low} (useless) to {high} (perfect)."""

AS_JSON = """

Answer with a JSON object and nothing else:
{"reason": "why, in a sentence or two", "score": a number from {low} to {high}}"""

AS_PROSE = """

Reason briefly, then end with a line "Score: N"."""

SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "score": {"type": "number"}},
    "required": ["reason", "score"],
    "additionalProperties": False,
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "judgement", "strict": True, "schema": SCHEMA}}
REFUSED = (400, 422)
"""What a server says that doesn't know ``response_format``, though not only then."""


def bounds(**options: Any) -> tuple[float, float]:
    return 0.0, 1.0


class judge:
    """The score in the model's answer, mapped linearly from ``scale`` to [0, 1]; beside it, for the rollout's record,
    ``reason``. Anything but one number on the scale is a failure.

    The model is asked for a JSON object with ``reason`` and ``score``: in the message, and by a schema
    (``response_format``) unless the server refuses that.

    Args:
        url: the server's base URL. Where it has no path, ``/v1`` is meant.
        model: its name there.
        template: the message, with ``{prompt}``, ``{response}``, ``{ground_truth}``, ``{low}`` and ``{high}``; the JSON
            object is asked for after it. What a response says to the judge reaches it, too.
        pattern: for a judge that does prose alone: regular expression that matches its answer exactly once, and whose
            first group is the number. Then no JSON is asked for; the template has to say what is wanted.
        scale: lowest and highest number.
        token_env: environment variable that holds the API key. Default: none is sent but a dummy.
        temperature: 0: the likeliest answer.
        max_tokens: longest answer; one that is cut off is a failure.
        retries: requests after the first, on failed connections, 408, 409, 429 and 5xx, within the reward's timeout.
        rate: maximum of calls begun per second in each of the reward's processes, retries not counted.
        concurrency: maximum of calls at once in each of the reward's processes.

    Raises:
        RewardError: ``judge``: no number, several, or none on the scale; ``server``: it can't be reached or refuses.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        template: str | None = None,
        pattern: str | None = None,
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
        self.pattern = None if pattern is None else re.compile(pattern)
        if self.pattern is not None and self.pattern.groups < 1:
            raise ValueError(f"pattern: given {pattern!r}, allowed: a regular expression with a group")
        if self.pattern is None:
            self.template = (TEMPLATE if template is None else template) + AS_JSON
        else:
            self.template = TEMPLATE + AS_PROSE if template is None else template
        self.response_format = {"response_format": RESPONSE_FORMAT} if self.pattern is None else {}
        self.model, self.sampling = model, {"temperature": temperature, "max_tokens": max_tokens}
        self.rate, self.concurrency = rate, concurrency
        self.server = Server(base_url(url), retries=retries, token_env=token_env)

    async def __call__(self, prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> dict[str, Any]:
        parts = {"prompt": as_text(prompt), "response": response, "ground_truth": str(ground_truth)}
        parts |= {"low": f"{self.low:g}", "high": f"{self.high:g}"}
        try:
            answer = await self._ask(fill(self.template, parts))
            choice = answer.choices[0]
            said = choice.message.content or getattr(choice.message, "refusal", None) or ""
            cut = choice.finish_reason == "length"
        except self.server.errors as error:
            raise self.server.failure(error) from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise RewardError("server", f"not a chat completion: {type(error).__name__}: {error}") from error
        if cut:
            raise RewardError("judge", f"cut off after {self.sampling['max_tokens']} tokens: {said[-200:]!r}")
        return self.read(said)

    async def _ask(self, message: str) -> Any:
        create: Any = self.server.client.chat.completions.create
        request = {"model": self.model, "messages": [{"role": "user", "content": message}], **self.sampling}
        if not self.response_format:
            return await create(**request)
        try:
            return await create(**request, **self.response_format)
        except self.server.errors as error:
            if getattr(error, "status_code", None) not in REFUSED:
                raise
            answer = await create(**request)  # raises what was refused, if it wasn't the schema
            logger.warning("%s takes no response_format, so only the message asks for JSON: %s", self.server.url, error)
            self.response_format = {}
            return answer

    def read(self, said: str) -> dict[str, Any]:
        """``score``, from 0 to 1, and ``reason`` of the model's answer; what it thought before doesn't count."""
        said = said.rpartition("</think>")[2]
        if self.pattern is None:
            number, reason = from_json(said, self.low, self.high)
        else:
            number, reason = from_prose(said, self.pattern, self.low, self.high), said.strip()
        return {"score": (number - self.low) / (self.high - self.low), "reason": reason}


def base_url(given: str) -> str:
    """
    >>> base_url("http://judge:8000"), base_url("http://judge:8000/api/v3")
    ('http://judge:8000/v1', 'http://judge:8000/api/v3')
    """
    return given.rstrip("/") + "/v1" if urlsplit(given).path in ("", "/") else given


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
