"""Makes the explorer, a folder that a browser can open from disk: `python docs/explorer/build.py build/explorer`.

The page's libraries are fetched from the npm registry once, in the versions below, and their integrity is verified;
`npm_config_registry` names another registry. A page that is opened from disk may not fetch, so each data file, and the
WebAssembly, becomes a script that holds it gzipped in base64.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE, DATA = (".html", ".css", ".js", ".txt"), (".json", ".bin", ".onnx")


@dataclass(frozen=True)
class Package:
    """A package of the npm registry; `integrity` is the SHA-512 of its tarball in base64, as npm writes it."""

    name: str
    version: str
    integrity: str


ONNX_RUNTIME = Package(
    "onnxruntime-web",
    "1.30.0",
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)
UPLOT = Package(
    "uplot", "1.6.32", "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw=="
)
LIBRARIES = {
    ONNX_RUNTIME: ("dist/ort.wasm.min.js",),
    UPLOT: ("dist/uPlot.iife.min.js", "dist/uPlot.min.css", "LICENSE"),
}
RUNTIME = ("dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm")


def read_package(package: Package) -> dict[str, bytes]:
    """Return a package's files by their path in it. The tarball is kept in build/npm.

    Raises:
        SystemExit: it cannot be fetched, or is another than the one that was chosen.
    """
    tarball = ROOT / "build" / "npm" / f"{package.name}-{package.version}.tgz"
    registry = next(
        (os.environ[name] for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY") if name in os.environ), ""
    )
    url = f"{(registry or 'https://registry.npmjs.org').rstrip('/')}/{package.name}/-/{tarball.name}"
    if tarball.is_file():
        data = tarball.read_bytes()
    else:
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                data = answer.read()
        except OSError as error:
            sys.exit(f"{url} could not be fetched ({error}): put that file at {tarball}, or set npm_config_registry")
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != package.integrity:
        sys.exit(
            f"{tarball.name} has another SHA-512 than expected: delete {tarball}, if it is there, or mend {__file__}"
        )
    tarball.parent.mkdir(parents=True, exist_ok=True)
    partial = tarball.with_suffix(f".{os.getpid()}")
    partial.write_bytes(data)
    partial.rename(tarball)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            member.name.partition("/")[2]: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }


def pack(name: str, data: bytes) -> str:
    """Return a script that hands a file to the page's `received`."""
    text = base64.b64encode(gzip.compress(data, mtime=0)).decode()
    return f"received({json.dumps(name)}, '{text}')\n"


def build(folder: Path, data: Path = HERE / "data") -> None:
    """Write the page, its libraries and its data into a folder.

    Raises:
        SystemExit: a library cannot be fetched, or there is no data.
    """
    files = sorted(path for path in data.glob("*") if path.suffix in DATA)
    if not files:
        sys.exit(f"{data} holds no data: `git checkout {data}`, or make it as its README says")
    libraries = {package: read_package(package) for package in LIBRARIES}
    for name in ("data", "libraries"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for path in HERE.iterdir():
        if path.suffix in PAGE:
            shutil.copy(path, folder)
    for package, names in LIBRARIES.items():
        for name in names:
            target = f"{package.name}-{Path(name).name}" if name == "LICENSE" else Path(name).name
            (folder / "libraries" / target).write_bytes(libraries[package][name])
    for name in RUNTIME:
        packed = folder / "libraries" / f"{Path(name).name}.js"
        packed.write_text(pack(f"libraries/{Path(name).name}", libraries[ONNX_RUNTIME][name]))
    for path in files:
        (folder / "data" / f"{path.name}.js").write_text(pack(f"data/{path.name}", path.read_bytes()))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("which folder is the explorer to be written to? python docs/explorer/build.py build/explorer")
    build(Path(sys.argv[1]))
    print(f"open {Path(sys.argv[1]) / 'index.html'} in a browser")
