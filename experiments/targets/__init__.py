"""Which cheap measure stands for what a steered model writes, and does a run pick the right one?"""
