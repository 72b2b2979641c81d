"""The wheel in an environment where nothing else is installed. `scripts/wheel` runs this; `scripts/test` does not."""

import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.rig import Home, Served, serving
from tests.deploy.rig import ROOT
from tests.measuring import HANG


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an empty environment into which the wheel and its dependencies were installed."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    venv.create(place / "venv", symlinks=True)
    target = place / "venv" / "bin" / "python"
    done(*pip, "wheel", "--no-deps", "--wheel-dir", place, ROOT)
    (wheel,) = place.glob("*.whl")
    # pip's own environment is not the target's, and compiling all modules would take longer than the rest.
    done(*pip, "--python", target, "install", "--no-compile", "--constraint", ROOT / "constraints.txt", wheel)
    return target


def done(*command: str | Path) -> str:
    """Run a command; return its output, and fail with all that it printed if it fails."""
    ran = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=HANG * 5)  # noqa: S603 - our own commands
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def served(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service, run from the wheel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(python))  # which the rig runs
        patch.delenv("PYTHONPATH", raising=False)
        with serving(Home(tmp_path_factory.mktemp("home"))) as served:
            yield served


def get(served: Served, path: str) -> httpx.Response:
    return httpx.get(f"{served.home.url}{path}", timeout=HANG, trust_env=False)


def test_the_service_answers_from_the_wheel(served: Served) -> None:
    assert get(served, "/healthz").json() == {"status": "ok"}
    assert get(served, "/readyz").json() == {"status": "ok", "sandbox": True}
    for path in ("/login", *re.findall(r'(?:href|src)="(/static/[^"]+)"', get(served, "/login").text)):
        assert get(served, path).status_code == 200, path


def test_the_command_and_the_api_of_the_wheel_have_its_version(python: Path, served: Served) -> None:
    assert done(python.with_name("receiver"), "--version") == f"receiver {version('receiver')}\n"
    document: Any = get(served, "/openapi.json").json()
    assert document["info"]["version"] == version("receiver")


def test_the_wheel_says_that_it_is_typed(python: Path) -> None:
    where = done(python, "-I", "-c", "import receiver; print(receiver.__path__[0])").strip()
    assert not where.startswith(str(ROOT))
    assert (Path(where) / "py.typed").exists()
