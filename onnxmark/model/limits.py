"""How large, deep and numerous a model may be before its reader stops: the answer to files built to exhaust a machine.

Every bound is far above what exporters write (the largest public graphs have some 10^5 nodes) and low enough that
reaching it costs seconds and a few gigabytes at worst. Crossing one is a ``ModelLimitError``, never a crash.
"""

from __future__ import annotations

MAX_ITEMS = 2_000_000
"""Nodes and tensors of one file together, and nodes visited when functions are expanded at their call sites."""
MAX_FIELDS = 40_000_000
"""Protobuf fields looked at in one file."""
MAX_MESSAGE_FIELDS = 1 << 20
"""Fields of one message that is not a graph or a function."""
MAX_NESTING = 64
"""Protobuf groups or subgraphs inside each other."""
MAX_CALL_DEPTH = 32
"""Local functions that call each other."""
MAX_RANK = 64
"""Axes of a tensor; NumPy has no more."""
MAX_TEXT = 1 << 20
"""Bytes of one name."""
MAX_METADATA = 16 << 20
"""Bytes of one metadata value."""
MAX_LIST_BYTES = 64 << 20
"""Bytes of an attribute that holds a list of integers."""
MAX_SMALL = 4096
"""Elements of a constant read while planning, such as the target shape of a Reshape."""
MAX_TENSOR_BYTES = 8 << 30
"""Default bound on one tensor, counted as float32."""
