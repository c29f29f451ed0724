"""Train small models on mixes made by `curate`: SFT and DPO with LoRA, and reward heads."""
