"""LiteLLM wants an older `openai` than the tests do, so it lives in an environment of its own, named by FARTHING_TEST_LITELLM_PYTHON.

    uv venv /tmp/litellm && uv pip install --python /tmp/litellm/bin/python 'litellm>=1.106' pytest pytest-asyncio pytest-timeout \
        httptools msgspec pydantic pyyaml
    FARTHING_TEST_LITELLM_PYTHON=/tmp/litellm/bin/python pytest tests/contract/providers/test_litellm.py

CI does not: 119 packages and the half minute that the suite takes would be a tenth of its time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from farthing.errors import SettingsError
from farthing.providers.litellm import load
from farthing.settings import LiteLLMSettings

_PYTHON = os.environ.get("FARTHING_TEST_LITELLM_PYTHON")
_HERE = Path(__file__).parent


@pytest.mark.skipif(find_spec("litellm") is not None, reason="litellm is installed here")
def test_without_the_package_the_settings_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # both are set by `load`: put back after the test
    monkeypatch.setenv("LITELLM_MODE", "PRODUCTION")
    with pytest.raises(SettingsError, match=r"providers\.up.*pip install 'farthing\[litellm\]'"):
        load("up", LiteLLMSettings(kind="litellm"))


def test_importing_the_provider_loads_no_litellm() -> None:
    code = "import farthing.providers.litellm, sys; sys.exit('litellm' in sys.modules or 'httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@pytest.mark.skipif(not _PYTHON, reason="FARTHING_TEST_LITELLM_PYTHON names no Python with litellm: the LiteLLM provider is NOT tested")
@pytest.mark.timeout(600)
def test_the_provider_contract_holds_with_the_real_package() -> None:
    assert _PYTHON
    environ = {**os.environ, "PYTHONPATH": str(_HERE.parents[2] / "src")}
    # Its warnings are its own business; and its exceptions are so deep that pytest cannot show them.
    options = ["-q", "--tb=line", "-p", "no:cacheprovider", "-o", "filterwarnings=ignore", "--timeout=60"]
    command = [_PYTHON, "-m", "pytest", str(_HERE / "litellm_suite.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=_HERE.parents[2])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
