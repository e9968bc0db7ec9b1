"""The front door: what `import impasto` offers."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

import impasto

NAMES = [
    "DeviceError",
    "DiskError",
    "DownloadError",
    "ImpastoError",
    "InputError",
    "Interrupted",
    "Moments",
    "OutOfMemoryError",
    "Result",
    "Session",
    "Step",
    "Style",
    "__version__",
    "learn",
    "load",
    "load_backbone",
    "methods",
    "named_styles",
    "read",
    "stylize",
    "tune",
    "write",
]
METHODS = {"adain", "artflow", "gatys", "ghiasi", "johnson", "styleflow", "wct"}


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_snapshot_of_the_public_names():
    assert dir(impasto) == impasto.__all__ == NAMES
    for name in NAMES:
        assert getattr(impasto, name) is not None
    assert dir(impasto) == NAMES  # rooms that are loaded now do not show
    with pytest.raises(AttributeError):
        _ = impasto.nothing


def test_to_import_it_loads_no_torch():
    code = "import sys, impasto; {}; print('torch' in sys.modules)"
    for use in ("dir(impasto)", "impasto.methods()", "impasto.InputError, impasto.ImpastoError"):
        assert in_a_fresh_process(code.format(use)) == "False"


def test_every_name_in_a_fresh_process():
    in_a_fresh_process(f"import impasto; [getattr(impasto, name) for name in {NAMES}]")
    in_a_fresh_process(f"from impasto import {', '.join(reversed(NAMES))}")


@pytest.mark.parametrize(
    "code",
    [
        "import impasto; print(len(impasto.methods()))",
        "import impasto, impasto.methods; print(len(impasto.methods()))",
        "from impasto import methods; from impasto.methods import METHODS; print(len(methods()))",
        "from impasto.methods import METHODS; import impasto; print(len(impasto.methods()))",
        "import impasto.methods.adain; print(len(impasto.methods()))",
        "import impasto; impasto.load('adain'); print(len(impasto.methods.METHODS))",
    ],
)
def test_methods_is_a_package_that_lists_them_when_it_is_called(code):
    assert in_a_fresh_process(code) == "7"


def test_the_methods_have_titles():
    assert impasto.methods().keys() == METHODS
    assert all(impasto.methods().values())


def test_list_methods_stays_for_a_version():
    with pytest.warns(DeprecationWarning, match=r"impasto\.list_methods is impasto\.methods now"):
        assert impasto.list_methods() == impasto.methods()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        impasto.methods()
