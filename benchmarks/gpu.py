"""All that is to be seen on a GPU, in under nine minutes: the tests marked `gpu`, speed, time to accuracy.

Run: make gpu, or python benchmarks/gpu.py [FOLDER_OF_WHEELS]. Where torch is installed already and there is no network,
the packages that are missing come from the folder (`make gpu-wheels` fills one), into an environment of their own over
this Python's. Writes benchmarks/RESULTS_GPU.md. Each part has its own limit of time and its own process: one that fails
or takes too long leaves the others.
"""

import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS_GPU.md"
DOCTOR = "from sg_resnets.cli import main; main()"
TESTS = ["-m", "pytest", "-q", "-m", "gpu", "--numprocesses=6", "--dist=worksteal", "-p", "no:cacheprovider", "tests"]
# Title, seconds at most, command.
PARTS = (
    ("The machine", 40, ["-c", DOCTOR, "doctor"]),
    ("Tests", 140, TESTS),
    ("A step of ResNet-20, batch 128", 110, ["benchmarks/gpu_step.py", "resnet20"]),
    ("ResNet-50 at 224 pixels, synthetic pictures", 120, ["benchmarks/gpu_step.py", "resnet50"]),
    ("Fashion-MNIST to 0.94", 110, ["benchmarks/gpu_step.py", "accuracy"]),
)


def environment(wheels: Path) -> str:
    """Make an environment of the wheels over this Python's packages, torch among them; return its Python."""
    folder = ROOT / ".venv-gpu"
    venv.create(folder, with_pip=False, clear=True)
    python = str(folder / "bin" / "python")
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", place], check=True, text=True, capture_output=True).stdout.strip())
    (site / "kept_torch.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-compile", *map(str, wheels.glob("*.whl"))], check=True)
    subprocess.run([*pip, "--no-build-isolation", "--editable", str(ROOT)], check=True)
    return python


def part(python: str, title: str, limit: int, command: list[str]) -> str:
    """Run one; its output as a section."""
    began = time.monotonic()
    try:
        done = subprocess.run([python, *command], cwd=ROOT, timeout=limit, text=True, capture_output=True)
        said, code = done.stdout, f"exit code {done.returncode}"
        if done.returncode:
            said += "\n".join(done.stderr.splitlines()[-15:])
    except subprocess.TimeoutExpired as late:
        said, code = (late.stdout or b"").decode(errors="replace"), f"stopped after {limit} s"
    lines = said.splitlines()
    kept = lines if len(lines) < 60 else [*lines[:16], "...", *lines[-40:]]
    return f"\n## {title}\n{code}, {time.monotonic() - began:.0f} s\n```\n" + "\n".join(kept) + "\n```\n"


def main() -> None:
    python = environment(Path(sys.argv[1])) if len(sys.argv) > 1 else sys.executable
    text = "# Benchmarks on a GPU\n`make gpu` writes this file.\n"
    for each in PARTS:
        section = part(python, *each)
        print(section, flush=True)
        text += section
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
