"""The course's web site: every page is in its contents, no page asks anyone else for anything, no link is broken."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from support import ENVIRONMENT, ROOT

SITE = ROOT / "docs" / "site"
INSTALLED = all(find_spec(name) for name in ("sphinx", "myst_nb", "furo"))
builds = pytest.mark.skipif(not INSTALLED, reason="what builds the site is not installed: make site installs it")
PAGES = [path.relative_to(ROOT) for pattern in ("docs/*.md", "notebooks/*.ipynb") for path in ROOT.glob(pattern)]


class Page(HTMLParser):
    """A page's anchors, what it links to, and what it loads."""

    def __init__(self, file):
        super().__init__()
        self.file, self.ids, self.links, self.loads = file, set(), set(), set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        self.loads |= {attrs[key] for key in ("src", "data", "poster") if attrs.get(key)}
        if href := attrs.get("href"):
            loaded = tag == "link" and attrs.get("rel") not in ("index", "search", "next", "prev", "author")
            (self.loads if loaded else self.links).add(href)

    def target(self, url):
        """The file of a link within the site, and the anchor in it."""
        path, anchor = unquote(urlsplit(url).path), urlsplit(url).fragment
        return (self.file.parent / path).resolve() if path else self.file, anchor


def run_build(root, site):
    command = [sys.executable, root / "docs" / "site" / "build.py", site]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env={**os.environ, **ENVIRONMENT})


def is_elsewhere(url):
    return bool(urlsplit(url).netloc)


@pytest.fixture
def repository(tmp_path):
    """A copy of what the site is made from, but the package's code: a build of it takes seconds."""
    patterns = (
        "*.*",
        "benchmarks/*.md",
        "checkpoints/*.*",
        "checkpoints/pretrained/*.md",
        "docs/*.*",
        "docs/explorer/data/*.md",
        "docs/site/**/*.*",
    )
    for pattern in (*patterns, "notebooks/**/*.*", "recipes/**/*.*"):
        for file in (file for file in ROOT.glob(pattern) if file.is_file()):
            copy = tmp_path / "repository" / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return tmp_path / "repository"


@pytest.mark.parametrize("page", map(str, PAGES))
def test_a_page_is_in_the_contents(page):
    contents = re.findall(r"```\{toctree\}\n(.*?)```", (SITE / "index.md").read_text(), re.DOTALL)
    entries = [line.strip(" >").rpartition("<")[2] for line in "".join(contents).splitlines() if line[:1] != ":"]
    assert [entry for entry in entries if fnmatch(str(Path(page).with_suffix("")), entry)]


def test_nothing_of_another_site_is_configured():
    files = [
        file for file in SITE.rglob("*.*") if file.suffix in (".css", ".html", ".js", ".md") or file.name == "conf.py"
    ]
    assert len(files) >= 4 and not [file for file in files if "//" in file.read_text()]


def test_the_workflow_publishes_what_make_site_builds():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text())["jobs"]
    steps = jobs["build"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make site PYTHON=python"]
    (artifact,) = [step["with"] for step in steps if step.get("uses", "").startswith("actions/upload-pages-artifact@")]
    assert ROOT / artifact["path"] == ROOT / "build" / "site"
    (python,) = [step["with"] for step in steps if step.get("uses", "").startswith("actions/setup-python@")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {python['python-version']}" in project["classifiers"]
    assert jobs["deploy"]["needs"] == "build"


@builds
def test_the_site_is_small_whole_and_asks_no_one_else(tmp_path):
    site = (tmp_path / "site").resolve()
    done = run_build(ROOT, site)
    assert done.returncode == 0, done.stderr
    pages = {file: Page(file) for file in site.rglob("*.html") if "explorer" not in file.relative_to(site).parts}
    assert {site / page.with_suffix(".html") for page in PAGES} < pages.keys()

    files = [file for file in site.rglob("*") if file.is_file() and "explorer" not in file.relative_to(site).parts]
    assert sum(file.stat().st_size for file in files) < 15e6
    home = pages[site / "index.html"]
    loaded = {home.file} | {home.target(url)[0] for url in home.loads if not url.startswith("data:")}
    assert len(loaded) > 5 and sum(file.stat().st_size for file in loaded) < 300e3

    assert [(page.file.name, url) for page in pages.values() for url in page.loads if is_elsewhere(url)] == []
    styles = {file: file.read_text(encoding="utf-8") for file in files if file.suffix in (".css", ".html")}
    outside = re.compile(r"""(url\(|@import)\s*['"]?(https?:)?//""")
    assert styles and not [file for file, text in styles.items() if outside.search(text)]
    assert any("<math" in styles[site / page.with_suffix(".html")] for page in PAGES if page.suffix == ".ipynb")

    broken = []
    for page in pages.values():
        for url in page.links | page.loads:
            file, anchor = page.target(url)
            if not urlsplit(url).scheme and not is_elsewhere(url):
                known = pages[file].ids if file in pages else ()
                if not file.exists() or (anchor and file in pages and anchor not in known):
                    broken.append((page.file.name, url))
    assert broken == []

    index = json.loads((site / "searchindex.js").read_text().removeprefix("Search.setIndex(").removesuffix(")"))
    assert {str(page.with_suffix("")) for page in PAGES} < set(index["docnames"]) and "degrad" in index["terms"]
    assert "sg_resnets.models.blocks.ResidualBlock" in pages[site / "api" / "sg_resnets.models.html"].ids


@builds
def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    done = run_build(ROOT, tmp_path)
    assert done.returncode == 1 and "is no site" in done.stderr and (tmp_path / "mine.txt").read_text() == "mine"


@builds
def test_a_broken_link_picture_or_formula_fails_the_build(repository, tmp_path):
    broken = {
        "[a page](nowhere.md)": "nowhere.md",
        "[a file](../recipes/nowhere.yaml)": "nowhere.yaml",
        "[an anchor](models.md#nowhere)": "'nowhere'",
        "![a picture](nowhere.png)": "nowhere.png",
        r"$x \nowhere y$": "nowhere y",
    }
    with (repository / "docs" / "course.md").open("a") as file:
        file.write("\n\n".join(["", *broken]))
    done = run_build(repository, tmp_path / "site")
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert done.returncode == 1 and len(warnings) == len(broken), done.stderr
    assert [
        text for text in broken.values() if not any("course.md" in line and text in line for line in warnings)
    ] == []


@builds
def test_a_solution_is_folded_and_the_students_version_can_be_worked_in(repository, tmp_path):
    solved = sorted((repository / "notebooks" / "solved").glob("*.ipynb"))[0]
    student = repository / "notebooks" / solved.name
    notebook = json.loads(solved.read_text())
    output = {"output_type": "stream", "name": "stdout", "text": ["shown output"]}
    cell = {"cell_type": "code", "id": "solved", "execution_count": 1, "outputs": [output]}
    source = ["given = 1\n", "### solution\n", "secret = 2\n", "### end"]
    notebook["cells"].append({**cell, "metadata": {"tags": ["solution"]}, "source": source})
    solved.write_text(json.dumps(notebook))
    address = "https://github.com/someone/thing"
    (repository / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{address}"\n')
    explorer = repository / "docs" / "explorer" / "build.py"
    explorer.parent.mkdir(exist_ok=True)
    explorer.write_text("""
from pathlib import Path
import sys
Path(sys.argv[1]).mkdir(parents=True)
Path(sys.argv[1], "index.html").touch()
""")

    done = run_build(repository, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    page = Page(tmp_path / "site" / "notebooks" / f"{student.stem}.html")
    folded = re.findall(r"<details.*?</details>", page.file.read_text(), re.DOTALL)
    (solution,) = [block for block in folded if "secret" in block]
    assert "A solution" in solution and "<details open" not in solution and "shown output" not in solution
    assert "shown output" in page.file.read_text()
    (download,) = [page.target(url)[0] for url in page.links if url.endswith(".ipynb") and not is_elsewhere(url)]
    assert download.read_bytes() == student.read_bytes()
    assert {f"https://colab.research.google.com/github/someone/thing/blob/main/notebooks/{student.name}",
            f"https://mybinder.org/v2/gh/someone/thing/main?labpath=notebooks/{student.name}"} < page.links  # fmt: skip
    home = Page(tmp_path / "site" / "index.html")
    assert "explorer/index.html" in home.links and "../explorer/index.html" in page.links
    assert (tmp_path / "site" / "explorer" / "index.html").is_file()
