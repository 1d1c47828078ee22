"""Builds the course's web site: `python docs/site/build.py [FOLDER]`, into build/site unless told otherwise.

Sphinx reads one folder. It gets copies of the repository's files at their own paths, so that a link holds here if it
holds there, and what is made for the site alone: the notebooks with their solutions folded and links to work in them,
and a page of the API for each folder of the package. A warning is an error.
"""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from sphinx.cmd.build import build_main

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# What is a page, and what a page may link to, show or include.
FILES = ("*.*", "LICENSE", "Makefile", "benchmarks/*.*", "checkpoints/*.*", "checkpoints/pretrained/*.md", "docs/*.*")
FILES += ("docs/explorer/data/*.md", "notebooks/*.*", "recipes/**/*.*", "src/**/*.py")
API = ("models", "data", "training", "diagnostics", "distillation", "quantization", "export", "runs", "utils")
API += ("course", "course.checks")
EXPLORER = ROOT / "docs" / "explorer" / "build.py"


def copy(file: Path, target: Path) -> None:
    """Copy a file into a folder that need not be there yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)


def repository() -> str:
    """Return the project's owner/name on GitHub, from [project.urls] Repository; "" while it is not set."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository", "").removeprefix("https://github.com/").strip("/")


def links_to_work(notebook: str, github: str) -> list[str]:
    """Return the lines that link to the student's version of a notebook: to download it, and where it can run."""
    links = [f"{{download}}`Download the notebook </to_solve/{notebook}>`"]
    if github:
        links.append(f"[Open in Colab](https://colab.research.google.com/github/{github}/blob/main/{notebook})")
        links.append(f"[Open in Binder](https://mybinder.org/v2/gh/{github}/main?labpath={notebook})")
    return [f"{line}\n" for line in ("", ":::{container} buttons", *links, ":::", "")]


def write_notebook(solved: Path, source: Path, github: str) -> None:
    """Write a notebook's page: solved, with the outputs that are stored; the student's version is what it links to."""
    name = f"notebooks/{solved.name}"
    copy(ROOT / name, source / "to_solve" / name)
    page = json.loads(solved.read_text(encoding="utf-8"))
    # Lines that begin with ! are IPython's; not every notebook says so.
    page["metadata"]["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    first = next(cell for cell in page["cells"] if cell["cell_type"] == "markdown")
    title, *text = "".join(first["source"]).splitlines(keepends=True)
    first["source"] = [title, *links_to_work(name, github), *text]
    for cell in page["cells"]:
        if "solution" in (tags := cell["metadata"].get("tags", [])):
            tags.append("hide-input")
            cell["metadata"]["mystnb"] = {"code_prompt_show": "A solution", "code_prompt_hide": "A solution"}
    (source / name).write_text(json.dumps(page), encoding="utf-8")


def write_api(package: str, source: Path) -> None:
    """Write the page of a folder of the package, a section for each of its modules."""
    lines = [package, "=" * len(package), "", f".. automodule:: {package}", ""]
    for file in sorted((ROOT / "src" / package.replace(".", "/")).glob("[!_]*.py")):
        lines += [file.stem, "-" * len(file.stem), "", f".. automodule:: {package}.{file.stem}", "   :members:", ""]
    (source / f"{package}.rst").write_text("\n".join(lines), encoding="utf-8")


def write_source(source: Path) -> None:
    """Write the folder that Sphinx reads."""
    shutil.rmtree(source, ignore_errors=True)
    for file in (file for pattern in FILES for file in ROOT.glob(pattern) if file.is_file()):
        copy(file, source / file.relative_to(ROOT))
    copy(HERE / "index.md", source / "index.md")
    github = repository()
    for solved in (ROOT / "notebooks" / "solved").glob("*.ipynb"):
        write_notebook(solved, source, github)
    (source / "api").mkdir()
    for folder in API:
        write_api(f"sg_resnets.{folder}", source / "api")


def main() -> int:
    """Build the site; 0 if all is well."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "site")
    if len(sys.argv) > 1 and site.exists() and not (site / ".buildinfo").is_file():
        sys.exit(f"{site} is there, and is no site: give a folder that is not there yet")
    source, doctrees = (site.with_name(f"{site.name}-{part}") for part in ("source", "doctrees"))
    shutil.rmtree(site, ignore_errors=True)
    write_source(source)
    options = ["--fresh-env", "--fail-on-warning", "--quiet", f"--conf-dir={HERE}", f"--doctree-dir={doctrees}"]
    if EXPLORER.is_file():
        subprocess.run([sys.executable, EXPLORER, site / "explorer"], check=True)
        options.append("--tag=explorer")
    return build_main([*options, str(source), str(site)])


if __name__ == "__main__":
    sys.exit(main())
