from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.web.helpers import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A site whose buffer is closed at the end."""
    site = Site()
    yield site
    await site.buffer.aclose(0)
