"""Models compared on the same prompts: what is evaluated, the statistics, and responses to single prompts."""
