"""What tests are skipped without: named in ESPALIER_REQUIRE it must be there, or they fail."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NEEDS, VARIABLE

TESTS = Path(__file__).parent


def skip_reasons() -> list[str]:
    """The reasons that stand in the tests and in what they import."""
    texts = [path.read_text(encoding="utf-8") for path in TESTS.glob("*.py") if path != Path(__file__)]
    pattern = r"""(?:pytest\.skip\(|skipif\(.* reason=|^REASON = )f?"([^"]+)\""""
    return [reason for text in texts for reason in re.findall(pattern, text, re.MULTILINE)]


def outcome(folder: Path, reason: str, require: str) -> tuple[int, str]:
    """Exit code and output of tests of which one is skipped for that reason, and one is to fail for its own."""
    shutil.copy(TESTS / "conftest.py", folder)
    (folder / "test_it.py").write_text(
        f"import pytest\n\n@pytest.mark.skipif(True, reason={reason!r})\ndef test_marked():\n    pass\n\n"
        f"@pytest.fixture\ndef server():\n    pytest.skip({reason!r})\n\ndef test_with_server(server):\n    pass\n\n"
        "@pytest.mark.xfail\ndef test_expected():\n    assert False\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder), "-rfsx"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, VARIABLE: require, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_required_and_missing_fails_the_tests_that_need_it(tmp_path: Path) -> None:
    for name in NEEDS:
        assert any(NEEDS[name] in reason for reason in skip_reasons()), name  # as tests give it
    code, output = outcome(tmp_path, "no browser: Debian's package chromium", "sshd, chromium")
    assert code == 1 and "1 xfailed, 2 errors" in output, output
    assert output.count(f"{VARIABLE} names chromium") >= 2


@pytest.mark.parametrize(("require", "code"), [("sshd", 0), ("sshd,crhomium", pytest.ExitCode.USAGE_ERROR)])
def test_what_is_not_required_is_skipped_and_what_is_unknown_an_error(tmp_path: Path, require: str, code: int) -> None:
    found, output = outcome(tmp_path, "no browser: Debian's package chromium", require)
    assert found == code, output
    assert ("2 skipped, 1 xfailed" if code == 0 else f"{VARIABLE}: got crhomium") in output
