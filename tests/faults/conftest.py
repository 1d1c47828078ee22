"""How much is tried: `make test-faults` sets SG_RESNETS_FAULTS, and tries what the docs say; `make test` a part."""

import os

import pytest


@pytest.fixture(scope="session")
def tries():
    """tries(full, short) -> how often something is tried."""
    return lambda full, short: full if os.environ.get("SG_RESNETS_FAULTS") else short
