"""``python -m onnxmark``."""

from onnxmark.cli import main

if __name__ == "__main__":
    main()
