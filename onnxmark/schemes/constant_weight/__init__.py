"""The constant weight code: the message decides which of some secretly chosen weights are large.

Kuribayashi, Yasui, Malik: White Box Watermarking for Convolution Layers in Fine-Tuning Model Using the Constant Weight
Code (J. Imaging 2023, 9(6):117), after Kuribayashi, Tanaka, Suzuki, Yasui, Funabiki (2021, arXiv 2107.02961). Pruning
takes small weights first, so a word that says *large* in few places is the last thing it takes.
"""
