"""Settings of the whole suite."""

from hypothesis import settings

# Two shared cores and several workers: a deadline would measure the machine, not the code.
settings.register_profile("onnxmark", deadline=None)
settings.load_profile("onnxmark")
