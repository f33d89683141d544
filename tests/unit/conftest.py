"""What holds for every unit test, and a machine without matplotlib."""

import builtins
import sys

import pytest
from hypothesis import settings

# how long an example takes says something of the machine, not of the code
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


@pytest.fixture
def no_matplotlib(monkeypatch):
    """A machine that has none."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
