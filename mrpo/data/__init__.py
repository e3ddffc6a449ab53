"""Rows of prompts as people have them, made into what verl reads, or refused before anything starts.

| module | for |
|---|---|
| ``files`` | parquet, JSON lines and JSON, read row by row |
| ``rows`` | one row in verl's schema, or what is wrong with it |
| ``kinds`` | one type for each field of all rows |
| ``sources`` | a reward for each data source |
| ``render`` | a prompt as the model will see it, by its chat template |
| ``check`` | all rows of a run: read, made, rendered, counted, written; its report |
| ``cached`` | the same in a process of its own, once for the same files and settings |

A row that verl gets is a chat of text messages that the template renders, ends with the user's (or a tool's) turn and
fits into ``data.max_prompt_length``, unless ``data.overlong=truncate_left`` lets it be cut.
"""
