"""Reward functions of other frameworks, called as those call them. Each kind is recognised by a parameter's name.

| kind | recognised by | called with | returns |
|---|---|---|---|
| ours | none of the below | ``prompt, response, ground_truth, extra`` by position | a number, None, a dict |
| verl | ``solution_str`` | what it takes of verl's four, ``data_source`` to ``extra_info`` | the same, a tuple |
| verl, batch | ``solution_strs`` | the same in lists of one, by their plurals | a list of one |
| TRL | ``completions``, a function | ``prompts, completions`` and the row's columns, lists of one | a list of one |
| ms-swift | ``completions``, a class | the same, always as texts | a list of one |
| OpenRLHF | ``queries`` and ``labels`` | refused: it wants the prompt as the model has seen it | |

In the scope of a group those that take lists get a list of all of its responses, and give one.

TRL gives chats where the data has chats, and texts where it has texts; so does this. The columns of a row are its
``extra_info`` and ``ground_truth``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from mrpo.errors import ConfigError

OURS, VERL, VERL_BATCH, COMPLETIONS, OPENRLHF = "this package", "verl", "verl, batch", "TRL or ms-swift", "OpenRLHF"
ADAPTER = """\
OpenRLHF's reward functions get the prompt in its template; write:
def reward(prompt, response, ground_truth, extra):
    text = prompt[-1]["content"]
    return float(reward_func([text + response], [text], [ground_truth])["rewards"][0])"""

Arguments = Callable[[Any, str, Any, dict[str, Any]], dict[str, Any]]


def kind_of(parameters: Collection[str]) -> str:
    """
    >>> kind_of(["completions", "answer", "kwargs"])
    'TRL or ms-swift'
    """
    if "solution_str" in parameters:
        return VERL
    if "solution_strs" in parameters:
        return VERL_BATCH
    if "completions" in parameters:
        return COMPLETIONS
    return OPENRLHF if {"queries", "labels"} <= set(parameters) else OURS


def adapt(
    target: Any,
    parameters: Mapping[str, inspect.Parameter],
    options: Mapping[str, Any],
    is_class: bool,
    of_group: bool = False,
) -> Any:
    """``target`` as a function of ``(prompt, response, ground_truth, extra)`` with its options bound, or of the
    ``(prompt, responses, ground_truth, extras)`` of a group, which those that take lists get in their lists.

    Raises:
        ConfigError: it is a kind that can't be called; the message shows the adapter to write.
    """
    kind = kind_of(parameters)
    if kind == OPENRLHF:
        raise ConfigError(ADAPTER)
    if kind == OURS:
        return functools.partial(target, **options) if options else target
    if of_group and kind == VERL:
        raise ConfigError("scope: given group, but a function with the parameter solution_str takes one response.")
    every = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    accepted = None if every else frozenset(parameters)
    arguments: dict[str, Arguments] = {
        VERL: verl_arguments,
        VERL_BATCH: verl_batch_arguments,
        COMPLETIONS: functools.partial(completion_arguments, as_text=is_class),
    }
    call = _call_async if _is_async(target) else _call
    make = functools.partial(_of_all, arguments[kind]) if of_group else arguments[kind]
    return functools.partial(call, target, make, accepted, dict(options), kind != VERL and not of_group)


def _of_all(make: Arguments, prompt: Any, responses: Any, ground_truth: Any, extras: Any) -> dict[str, Any]:
    """Of lists of one for each response, lists of all; None where a response has no such column."""
    ones = [make(prompt, one, ground_truth, extra) for one, extra in zip(responses, extras, strict=True)]
    names = dict.fromkeys(name for one in ones for name in one)
    return {name: [one[name][0] if name in one else None for one in ones] for name in names}


def verl_arguments(prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any]) -> dict[str, Any]:
    source = extra.get("data_source")
    return {"data_source": source, "solution_str": response, "ground_truth": ground_truth, "extra_info": extra}


def verl_batch_arguments(*one: Any) -> dict[str, Any]:
    plural = {"data_source": "data_sources", "solution_str": "solution_strs", "ground_truth": "ground_truths"}
    return {plural.get(name, f"{name}s"): [value] for name, value in verl_arguments(*one).items()}


def completion_arguments(
    prompt: Any, response: str, ground_truth: Any, extra: dict[str, Any], as_text: bool
) -> dict[str, Any]:
    columns = {name: [value] for name, value in extra.items()}
    prompts: list[Any]
    completions: list[Any]
    if as_text or extra.get("prompt_is_text"):
        prompts, completions = [prompt[-1]["content"] if prompt else ""], [response]
    else:
        prompts, completions = [prompt], [[{"role": "assistant", "content": response}]]
    return {"ground_truth": [ground_truth], **columns, "prompts": prompts, "completions": completions}


def _is_async(target: Any) -> bool:
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(getattr(target, "__call__", None))  # noqa: B004


def _given(make: Arguments, accepted: frozenset[str] | None, options: dict[str, Any], one: Any) -> dict[str, Any]:
    arguments = {**make(*one), **options}
    return arguments if accepted is None else {name: value for name, value in arguments.items() if name in accepted}


def _call(
    target: Any, make: Arguments, accepted: frozenset[str] | None, options: dict[str, Any], in_list: bool, *one: Any
) -> Any:
    returned = target(**_given(make, accepted, options, one))
    return _only(returned) if in_list else returned


async def _call_async(
    target: Any, make: Arguments, accepted: frozenset[str] | None, options: dict[str, Any], in_list: bool, *one: Any
) -> Any:
    returned = await target(**_given(make, accepted, options, one))
    return _only(returned) if in_list else returned


def _only(returned: Any) -> Any:
    """The score in a list of one."""
    if isinstance(returned, str | bytes | dict) or not hasattr(returned, "__len__") or len(returned) != 1:
        raise TypeError(f"given {returned!r:.100}, allowed: a list with one score for the one response")
    return returned[0]
