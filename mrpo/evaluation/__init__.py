"""Models compared on the same prompts: what is evaluated, the statistics, and answers to single prompts."""
