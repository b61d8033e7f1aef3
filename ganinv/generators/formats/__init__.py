"""StyleGAN2 weights as the world stores them: one file per dialect.

Each dialect knows which tensor names it is recognised by, how to read off the shape of the network, and where each of
our tensors lies in it (``Part``). ``find.py`` picks the dialect by content; ``build.py`` makes the network.
"""
