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
COPIED = {  # where a package's files go
    ONNX_RUNTIME: {"dist/ort.wasm.min.js": "ort.wasm.min.js"},
    UPLOT: {
        "dist/uPlot.iife.min.js": "uPlot.iife.min.js",
        "dist/uPlot.min.css": "uPlot.min.css",
        "LICENSE": "uPlot-LICENSE.txt",
    },
}
PACKED = ("ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")  # of ONNX Runtime


def open_package(package: Package) -> tarfile.TarFile:
    """Open the tarball of a package, whose files are in its folder `package`. It is kept in build/npm.

    Raises:
        SystemExit: it cannot be fetched, or is another than the one that was chosen.
    """
    tarball = ROOT / "build" / "npm" / f"{package.name}-{package.version}.tgz"
    settings = [os.environ.get(name) for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY")]
    registry = next(filter(None, settings), "https://registry.npmjs.org").rstrip("/")
    url = f"{registry}/{package.name}/-/{tarball.name}"
    kept = tarball.is_file()
    try:
        data = tarball.read_bytes() if kept else _fetch(url)
    except OSError as error:
        sys.exit(f"{url} could not be fetched ({error}): put that file at {tarball}, or set npm_config_registry")
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != package.integrity:
        advice = "delete it" if kept else "set npm_config_registry to another registry"
        sys.exit(f"{tarball if kept else url} has another SHA-512 than {package.name} {package.version}: {advice}")
    if not kept:
        tarball.parent.mkdir(parents=True, exist_ok=True)
        partial = tarball.with_suffix(f".{os.getpid()}")
        partial.write_bytes(data)
        partial.rename(tarball)
    return tarfile.open(fileobj=io.BytesIO(data))


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


def read_file(archive: tarfile.TarFile, name: str) -> bytes:
    """Return the bytes of a package's file."""
    return archive.extractfile(f"package/{name}").read()  # type: ignore[union-attr]


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
    libraries = folder / "libraries"
    for made in (folder / "data", libraries):
        made.mkdir(parents=True, exist_ok=True)
    for package, targets in COPIED.items():
        with open_package(package) as archive:
            for name, target in targets.items():
                (libraries / target).write_bytes(read_file(archive, name))
    with open_package(ONNX_RUNTIME) as archive:
        for name in PACKED:
            (libraries / f"{name}.js").write_text(pack(f"libraries/{name}", read_file(archive, f"dist/{name}")))
    for path in files:
        (folder / "data" / f"{path.name}.js").write_text(pack(f"data/{path.name}", path.read_bytes()))
    for path in HERE.iterdir():
        if path.suffix in PAGE:
            shutil.copy(path, folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("which folder is the explorer to be written to? python docs/explorer/build.py build/explorer")
    build(Path(sys.argv[1]))
    print(f"open {Path(sys.argv[1]) / 'index.html'} in a browser")
