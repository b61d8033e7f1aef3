"""Limits for what a file may ask for. A file that asks for more is refused, whatever it claims to be."""

from __future__ import annotations

from ganinv.errors import WeightsRefused

# A StyleGAN2 pickle of resolution 1024 takes 40,000 opcodes, a HyperStyle checkpoint 100,000.
MAX_OPCODES = 1_000_000
MAX_NESTED_PICKLES = 3  # torch.storage inside a pickle is depth 1
MAX_STRING = 128 * 2**20  # bytes of one text; protocol 2 writes the bytes of a tensor as text
MAX_INTEGER_BYTES = 1024
MAX_DIMENSIONS = 16
MAX_TUPLE_KEYS = 2000  # tuples hash without a secret: many of them could be made to collide
MAX_TREE_DEPTH = 200
MAX_TREE_NODES = 2_000_000
MAX_MEMO = 2**32  # places in a pickle's memo
MAX_ZIP_DIRECTORY = 8 * 2**20
MAX_SAFETENSORS_HEADER = 4 * 2**20  # HyperStyle's takes 300 KiB
MAX_REPEATS = 8  # how often tensors may repeat their storages when all of them are loaded
INLINE_BYTES = 4096  # longer byte strings stay in the file until somebody reads them


class Budget:
    """What one file has used so far, including nested pickles.

    Args:
        size: bytes of the file. Tensor data beyond that can only come from compression, or from one region that is used twice.
            A little is normal; a multiple is an attack.
    """

    def __init__(self, size: int) -> None:
        self.opcodes = 0
        self.depth = 0
        self.tuple_keys = 0
        self.copied = 0
        self.stored = 0
        self.max_stored = 2 * size + 2**20

    def opcode(self) -> None:
        self.opcodes += 1
        if self.opcodes > MAX_OPCODES:
            raise WeightsRefused(
                f"the pickle takes more than {MAX_OPCODES} steps to build; generators take under 100000"
            )

    def tuple_key(self) -> None:
        self.tuple_keys += 1
        if self.tuple_keys > MAX_TUPLE_KEYS:
            raise WeightsRefused(f"the pickle has more than {MAX_TUPLE_KEYS} tuples as dictionary keys")

    def copy(self, count: int) -> None:
        """Count bytes or entries that a call was given and may copy."""
        self.copied += count
        if self.copied > MAX_OPCODES + 2 * self.max_stored:
            raise WeightsRefused(
                f"the pickle copies {self.copied} bytes and entries of containers, out of proportion to the size of the file"
            )

    def store(self, count: int) -> None:
        self.stored += count
        if self.stored > self.max_stored:
            raise WeightsRefused(
                f"its tensors claim more than {self.max_stored} bytes, out of proportion to the size of the file"
            )
