"""What every test relies on: nothing of the machine's own AWS settings, and no deadline of hypothesis's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is not a failure, and pytest-timeout bounds every test. The parent is hypothesis's own
# choice: in CI, a profile that repeats the same examples.
settings.register_profile("rumbuffer", parent=settings(), deadline=None)
settings.load_profile("rumbuffer")


_FROM_CI = {"RUMBUFFER_AWS_CLI", "RUMBUFFER_NODE_MODULES", "RUMBUFFER_REQUIRE_ALL"}
"""What .ci/run tells the tests."""


@pytest.fixture(autouse=True)
def pace_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the pace that the buffers of a test share on this host away from all other tests."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_machine() -> Iterator[None]:
    """Hide credentials, profiles, regions and proxies that a developer's machine may have.

    Without it a test could sign with real credentials, or look for some on the network.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - _FROM_CI:
            if name.startswith(("AWS_", "RUMBUFFER_")) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield
