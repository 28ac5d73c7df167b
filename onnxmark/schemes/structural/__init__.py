"""Structural watermarks: the message is in how many channels the layers of a pruned network have left.

Zhao, Yao, Wu, Zhang: Structural Watermarking to Deep Neural Networks via Network Channel Pruning (WIFS 2021, arXiv
2107.08688). The idea is theirs, channel pruning rates that carry the message; how a message becomes widths, and what
widths are worth as evidence, is a reconstruction of ours: the paper's own mapping was not at hand.
"""
