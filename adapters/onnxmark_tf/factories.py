"""The user's own code that builds a model, named as ``module:function``.

It is the one way to a model whose classes are not Keras's own, and to one for a file that holds weights only. The code
is the user's, so that calling it asks for no trust in the file.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from onnxmark.errors import ConversionError, SettingError
from onnxmark_tf.frameworks import first_line


def build(factory: str) -> object:
    """What the function returns when it is called without arguments.

    Args:
        factory: ``module:function``, found in the current directory or among the packages installed.

    Raises:
        SettingError: There is no such function.
        ConversionError: It raises.
    """
    name, _, attribute = factory.partition(":")
    if not name or not attribute.isidentifier():
        raise SettingError(f"a factory is named as module:function (nets.small:build), not {factory!r}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        function = getattr(import_module(name), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingError(f"the factory {factory!r} is not there: {first_line(error)}") from error
    try:
        return function()
    except Exception as error:
        raise ConversionError(
            f"the factory {factory!r} raised {type(error).__name__}: {first_line(error)}; call it by itself to see why"
        ) from error
