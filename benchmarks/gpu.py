"""All that is to be seen on a GPU, in under nine minutes: speed, time to accuracy, and the tests marked `gpu`.

Run: make gpu, or python benchmarks/gpu.py [FOLDER_OF_WHEELS]. Where torch is installed already and there is no network,
the packages that are missing come from the folder (`make gpu-wheels` fills one). Writes benchmarks/RESULTS_GPU.md. Each
part has its own limit of time and its own process: one that fails or takes too long leaves the others.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "RESULTS_GPU.md"
# Title, seconds at most, command.
PARTS = (
    ("The machine", 60, ["-m", "sg_resnets.cli", "doctor"]),
    ("A step of ResNet-20, batch 128", 120, ["benchmarks/gpu_step.py", "resnet20"]),
    ("ResNet-50 at 224 pixels, synthetic pictures", 120, ["benchmarks/gpu_step.py", "resnet50"]),
    ("Fashion-MNIST to 0.94", 90, ["benchmarks/gpu_step.py", "accuracy"]),
    (
        "Tests",
        220,
        ["-m", "pytest", "-q", "-m", "gpu", "--numprocesses=4", "--dist=worksteal", "-p", "no:cacheprovider", "tests"],
    ),
)


def install(wheels: Path) -> None:
    """Install what is missing from a folder of wheels, and this package, without a network."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, *map(str, wheels.glob("*.whl"))], check=True)
    subprocess.run([*pip, "--no-build-isolation", "--editable", str(ROOT)], check=True)


def part(title: str, limit: int, command: list[str]) -> str:
    """Run one; its output as a section."""
    began = time.monotonic()
    try:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, timeout=limit, text=True, capture_output=True)
        said, code = done.stdout, f"exit code {done.returncode}"
        if done.returncode:
            said += "\n".join(done.stderr.splitlines()[-15:])
    except subprocess.TimeoutExpired as late:
        said, code = (late.stdout or b"").decode(errors="replace"), f"stopped after {limit} s"
    lines = said.splitlines()
    kept = lines if len(lines) < 60 else [*lines[:5], "...", *lines[-50:]]
    return f"\n## {title}\n{code}, {time.monotonic() - began:.0f} s\n```\n" + "\n".join(kept) + "\n```\n"


def main() -> None:
    if len(sys.argv) > 1:
        install(Path(sys.argv[1]))
    text = "# Benchmarks on a GPU\n`make gpu` writes this file.\n"
    for each in PARTS:
        section = part(*each)
        print(section, flush=True)
        text += section
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
