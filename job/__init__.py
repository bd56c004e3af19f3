"""lora-job: a batch job that fine-tunes language models with LoRA and measures whether it helped."""

__version__ = "0.2.0"
