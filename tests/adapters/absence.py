"""Importing a module where a package is not installed, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import {module}
"""


def run_python(code):
    """The finished process."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def last_line_of_importing(module, package):
    """What the traceback ends with when ``module`` is imported without ``package``."""
    return run_python(ABSENT.format(module=module, package=package)).stderr.strip().splitlines()[-1]
