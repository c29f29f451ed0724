"""Kill a build -9 at 0.3, 0.6 and 0.85 of its time; the same command must end with the same bytes."""

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BUILD = ["build", "--source", "sft", "--num-prompts", "12", "--max-tokens", "48", "--min-margin", "0.1", "--json"]


def command(data: Path) -> list[str]:
    return [sys.executable, "-m", "curate.cli.main", *BUILD, "--data", str(data)]


def finish(data: Path) -> dict[str, object]:
    """Run the build to its end; what it printed as JSON."""
    done = subprocess.run(command(data), capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def tables(data: Path) -> str:
    """Digest of all table files and their names."""
    files = sorted(data.glob("tables/**/*.parquet"))
    content = b"".join(str(path.relative_to(data)).encode() + path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()


def main() -> int:
    """Print one line a kill; 1 if any ended with other bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        started = time.monotonic()
        summary = finish(whole)
        seconds = time.monotonic() - started
        print(f"undisturbed: {seconds:.1f} s, {summary['calls']} calls, {summary['kept']} of {summary['rows_in']} kept")
        is_same = True
        for share in (0.3, 0.6, 0.85):
            data = Path(scratch) / f"killed-{share}"
            process = subprocess.Popen(command(data), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(share * seconds)
            process.kill()
            process.wait()
            resumed = finish(data)
            same = tables(data) == tables(whole)
            is_same &= same
            calls = f"{resumed['calls']} calls made, {resumed['reused_calls']} reused"
            print(f"killed at {share}: {calls}, {'the same bytes' if same else 'OTHER BYTES'}")
    return 0 if is_same else 1


if __name__ == "__main__":
    sys.exit(main())
