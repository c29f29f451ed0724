import pytest

from curate.cli.main import main


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `curate ...` in an empty folder; gives the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAIRWRIGHT_DATA", raising=False)

    def command(*words: str) -> tuple[int, str, str]:
        code = main([*words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command
