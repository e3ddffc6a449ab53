"""From a checkpoint to a Hugging Face folder: what was trained, for transformers, vLLM and the hub.

A checkpoint's tensors go one by one into safetensors shards, so memory holds a tensor or two, not a model; there is no
GPU, no Ray and no verl in it. The folder is whole or absent (``folder``).
"""
