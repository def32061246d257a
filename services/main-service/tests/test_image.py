"""The image's steps, run without Docker: the Dockerfile's own commands, with its folders moved elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from harness import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
# The chart's security context
USER = 65532


def instructions() -> list[tuple[str, str]]:
    """Give the Dockerfile's instructions, each with its text on one line."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """Run the first stage; give the folder that stands for the root of the image."""
    # Not pytest's own folder, which other users cannot enter.
    root = Path(tempfile.mkdtemp(prefix="main-service-image-"))
    root.chmod(0o755)
    (root / "build").mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    try:
        for name, arguments in instructions():
            if name == "COPY" and "--from" not in arguments:
                source, target = arguments.split()
                copied = root / "build" / target
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, copied, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, copied)
            elif name == "RUN":
                command = arguments.replace("/opt/venv", str(root / "opt/venv"))
                subprocess.run(
                    ["/bin/sh", "-ec", command], cwd=root / "build", env=os.environ | {"PATH": path}, check=True
                )
        yield root
    finally:
        shutil.rmtree(root)


def may_become(user: int, python: Path) -> bool:
    """Tell whether this process can run the interpreter as that user."""
    try:
        return subprocess.run([python, "-c", ""], user=user, group=user, extra_groups=[], check=False).returncode == 0
    except PermissionError:
        return False


def test_what_the_image_runs_answers_as_the_chart_runs_it(image: Path) -> None:
    """The interpreter and folders of the image, and its user where the test may change to it."""
    variables = dict(
        variable.split("=", 1) for name, text in instructions() if name == "ENV" for variable in text.split()
    )
    assert variables.pop("PATH") == "/opt/venv/bin:$PATH"
    entry = next(text for name, text in instructions() if name == "ENTRYPOINT")
    assert entry == '["python", "-m", "main_service"]'
    files = set(image.rglob("*"))
    python = image / "opt/venv/bin/python"
    service = Service(
        variables | {"PYTHONPATH": ""},
        python=python,
        user=USER if may_become(USER, python) else None,
    )
    try:
        service.wait_until_ready()
        assert service.status("/action") == 200
        assert service.counts() == {"400_count": 0, "500_count": 0, "request_count": 1}
        assert service.stop() == 0
    finally:
        service.close()
    assert set(image.rglob("*")) == files


def test_every_module_has_its_bytecode_and_pip_is_left_out(image: Path) -> None:
    packages = next((image / "opt/venv/lib").glob("python3.*/site-packages"))
    modules = list((packages / "main_service").glob("*.py"))
    assert {path.name for path in modules} == {path.name for path in (ROOT / "src/main_service").glob("*.py")}
    for module in modules:
        compiled = list((packages / "main_service/__pycache__").glob(f"{module.stem}.cpython-*.pyc"))
        assert len(compiled) == 1
        # PEP 552: the flags say "by hash, and not checked".
        assert compiled[0].read_bytes()[4:8] == (1).to_bytes(4, "little")
    assert not list(packages.glob("pip*"))


def test_the_image_is_pinned_and_runs_as_nobody() -> None:
    bases = {text.split()[0] for name, text in instructions() if name == "FROM"} - {"base"}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", bases.pop())
    assert [text for name, text in instructions() if name == "USER"] == [f"{USER}:{USER}"]


def test_the_locks_have_a_hash_for_everything_and_name_no_index() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lock = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in lock
        assert "--index" not in lock
        pins = re.findall(r"^[a-z0-9-]+==[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", lock, flags=re.MULTILINE)
        assert len(pins) == len(re.findall(r"^[a-z0-9]", lock, flags=re.MULTILINE))
