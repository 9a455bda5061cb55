"""The gate's tests. Each file is skipped if SciPy is missing."""

import pytest

pytest.importorskip("scipy", reason="SciPy is not installed: python -m pip install -e '.[gate]'")
