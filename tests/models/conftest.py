"""SuperGradients' way to a network."""

import pytest


@pytest.fixture
def get(host):
    """SuperGradients' `models.get`."""
    from super_gradients.training import models

    return models.get
