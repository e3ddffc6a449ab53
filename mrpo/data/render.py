"""A prompt as the model will see it: its messages in the tokenizer's chat template, as verl's agent loop renders them.

Imports transformers, and with it torch, when a tokenizer is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mrpo.config.model_code import refusal
from mrpo.errors import ConfigError


def render_chat(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    options: Mapping[str, Any],
    tools: Sequence[Mapping[str, Any]] = (),
) -> str:
    """A chat in the tokenizer's template, up to where the model goes on: a turn of its own, or a last message of the
    assistant's that was begun. ``tools`` are the schemas of those that it may call."""
    begun = messages[-1]["role"] == "assistant"
    how: dict[str, Any] = {"continue_final_message": True} if begun else {"add_generation_prompt": True}
    if tools:
        how["tools"] = list(tools)
    chat = [dict(message) for message in messages]
    return str(tokenizer.apply_chat_template(chat, tokenize=False, **how, **options))


class Renderer:
    """Renders prompts with one tokenizer and the options of its chat template.

    Args:
        model: a folder or a name on the hub.
        options: arguments of the template (``data.apply_chat_template_kwargs``).
        template: a chat template in place of the tokenizer's own.
        trust_remote_code: execute the Python files that come with the tokenizer.

    Raises:
        ConfigError: there is no tokenizer, it has no chat template, or it is code and that isn't trusted.
    """

    def __init__(
        self, model: str, options: Mapping[str, Any], template: str | None = None, trust_remote_code: bool = False
    ):
        from transformers import AutoTokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if not trust_remote_code and "trust_remote_code" in str(error):
                raise refusal("model.trust_remote_code", f"the tokenizer of {model} is code of its own") from None
            raise ConfigError(
                f"model.path: {model} has no tokenizer that loads: {str(error).splitlines()[0]}"
            ) from None
        if template is not None:
            self.tokenizer.chat_template = template
        if not self.tokenizer.chat_template:
            raise ConfigError(
                f"model.path: the tokenizer of {model} has no chat template, and prompts are chats. Give it one "
                "(chat_template.jinja beside it), or set verl.actor_rollout_ref.model.custom_chat_template."
            )
        self.options = dict(options)

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt's text. Raises ConfigError if the template refuses it, or leaves the last message out."""
        try:
            text = render_chat(self.tokenizer, messages, self.options, tools)
        except Exception as error:  # a template is a program, which raises what it likes
            raise ConfigError(f"prompt: the chat template refuses it: {str(error).splitlines()[0]}") from None
        if messages[-1]["content"].strip() not in text:
            raise ConfigError(f"prompt: the chat template leaves the last message out, and renders {text!r:.200}")
        return text

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each rendered prompt."""
        return list(map(len, self.tokenizer(list(texts), add_special_tokens=False)["input_ids"])) if texts else []


def opened_tag(text: str) -> str:
    """The tag that a rendered prompt ends in, which the model therefore doesn't write itself; empty if there is none.

    >>> opened_tag("<|assistant|><think>\\n")
    'think'
    """
    found = re.search(r"<(\w+)>\s*\Z", text)
    return found[1] if found else ""
