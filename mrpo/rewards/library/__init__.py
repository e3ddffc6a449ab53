"""Reward functions for common tasks, used by their bare names (``function: math``).

A module a kind; its options are the keyword arguments of the function, or of the class, that has the module's name.
``mrpo rewards list`` prints them all.

| name | score | range |
|---|---|---|
| ``exact_match`` | 1 if the response is the ground truth | 0, 1 |
| ``normalized_match`` | the same, apart from case, articles, punctuation and whitespace | 0, 1 |
| ``math`` | 1 if the boxed answer equals the ground truth as mathematics | 0, 1 |
| ``tool_call`` | ToolRL's correctness of tool calls | [-3, 3] |
| ``tool_format`` | ToolRL's format | 0, 1 |
| ``tags`` | 1 if the required tags are there, in order, each once | 0, 1 |
| ``regex`` | 1 if a regular expression matches | 0, 1 |
| ``json_schema`` | 1 if it is JSON that is valid by a schema | 0, 1 |
| ``length`` | its length against a limit or a target | [0, 1]; ``cosine``: of its options |
| ``keywords`` | share of conditions on words that hold | [0, 1] |
| ``sentiment`` | how positive, or negative, it sounds | [0, 1] |
| ``code`` | share of tests that its program passes | [0, 1] |
| ``bug_ratio`` | minus the share of tests on which its program breaks | [-1, 0] |
| ``distinct`` | of a group: how much of it the others don't say | [0, 1] |
| ``rank`` | of a group: another reward's rank | [0, 1] |
| ``http`` | what a server of yours answers | yours |
| ``judge`` | what a language model answers | [0, 1] |
| ``reward_model`` | what a sequence classifier served by vLLM answers | unbounded |

Each module has ``bounds(**options)``, the smallest interval that holds every score with those options, unless it knows
none. What can't be scored raises, ValueError for a ground truth or a row that can't be used: a counted failure, never a
score of 0. Not applicable, None, is a ``tool_call`` where none is wanted, and what a server answers null to.
"""
