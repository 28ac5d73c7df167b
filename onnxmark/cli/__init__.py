"""The command line: parse, call, print, exit. Importing it, or asking for help, loads neither NumPy nor onnx."""

from onnxmark.cli.app import main, run

__all__ = ["main", "run"]
