"""What a recipe's prepare script is made of, so that it shows only how its rows and its model come about.

| module | for |
|---|---|
| ``cli`` | the script's frame: ``--out``, ``--seed``, ``--source``, and errors in one line |
| ``download`` | public files, from a folder of local copies or downloaded |
| ``rows`` | rows in verl's schema: built, checked, written |
| ``tiny_model`` | a small model with a tokenizer of its own, warm-started on a CPU |
| ``gguf`` | a model that is distributed as GGUF, de-quantized |
| ``bfcl`` | BFCL's questions and accepted answers, in the format of the rewards ``tool_call`` and ``tool_format`` |
"""
