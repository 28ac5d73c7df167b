"""Fixtures of the tests with TensorFlow: importing it takes seconds, so that models and files are made once."""

from __future__ import annotations

import pytest

THIRD_PARTY = (
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "ignore:In the future `np.object` will be defined:FutureWarning",
    "ignore:.*tf.lite.Interpreter is deprecated:UserWarning",
)


def pytest_collection_modifyitems(items):
    """Keras and TensorFlow warn of themselves; nothing of ours is silenced."""
    for item in items:
        if "adapters_tf" in item.nodeid:
            for warning in THIRD_PARTY:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session")
def every_kind():
    """The model; not to be changed."""
    from tests.adapters_tf import nets

    return nets.every_kind()


@pytest.fixture(scope="session")
def plain():
    """The model; not to be changed."""
    from tests.adapters_tf import nets

    return nets.plain()


@pytest.fixture(scope="session")
def files(every_kind, plain, tmp_path_factory):
    """The models in every container, by name."""
    from tests.adapters_tf.containers import saved

    return saved(tmp_path_factory.mktemp("containers"), every_kind, plain)
