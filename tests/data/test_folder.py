"""What a folder of pictures is taken for, and what is said of one that cannot be used."""

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from sg_resnets.data.check import Looked
from sg_resnets.data.folder import contents, relative
from sg_resnets.runs.check import describe, in_two_parts
from sg_resnets.utils.errors import SgResnetsError


@pytest.fixture
def fill(tmp_path):
    """Makes so many pictures in each of the folders."""

    def make(*folders, count=5):
        for folder in folders:
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.new("L", (2, 2)).save(tmp_path / folder / f"{i}.png")
        return tmp_path

    return make


def places(found, part):
    return [relative(picture.path, found.root) for picture in found.parts[part]]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "valid", "testing"), ("training", "validation")])
def test_parts_by_their_usual_names(fill, names):
    root = fill(*(f"{part}/{name}" for part in names for name in ("dog", "cat")))
    found = contents(root)
    assert found.class_names == ("cat", "dog") and not found.is_split
    assert {part: len(pictures) for part, pictures in found.parts.items()} == dict.fromkeys(
        ("train", "val", "test")[: len(names)], 10
    )
    assert places(found, "val")[0].startswith(f"{names[1]}/cat/")
    assert [picture.label for picture in found.part("val")] == [0] * 5 + [1] * 5
    assert contents(root, part="val").parts.keys() == {"val"}


@pytest.mark.parametrize("under", ["", "train/"])
def test_what_has_no_validation_part_is_split_by_class(fill, under):
    root = fill(f"{under}cat", count=20)
    fill(f"{under}dog", count=3)
    found = contents(root)
    by_class = [
        [picture.label for picture in found.parts[part]].count(label) for part in ("train", "val") for label in (0, 1)
    ]
    assert found.is_split and by_class == [16, 2, 4, 1]  # a fifth, one at least
    assert not {*places(found, "train")} & {*places(found, "val")}
    assert contents(root).parts == found.parts != contents(root, seed=1).parts
    assert len(contents(root, val_fraction=0.5).parts["val"]) == 12
    fill(f"{under}cat", count=25)  # few of those before change their part
    more = contents(root)
    assert len({*places(found, "val")} - {*places(more, "val")}) <= 2
    assert contents(root, part="val").parts["val"] == more.parts["val"]


def test_a_csv_file_lists_pictures(fill, tmp_path):
    root = fill("cat", "dog", count=2)
    file = root / "labels.csv"
    rows = ("cat/0.png,Katze,train", "cat/1.png,Katze,test", "dog/0.png,Hund,train", "dog/1.png,Hund,val")
    file.write_text("\n".join(["file,class,part", *rows, "cat/0.png,Katze,train"]))
    for found in (contents(file), contents(root, labels=file)):
        assert found.class_names == ("Hund", "Katze") and not found.is_split
        labels = {part: [picture.label for picture in found.parts[part]] for part in found.parts}
        assert labels == {"train": [1, 0], "val": [0], "test": [1]}
        assert places(found, "train") == ["cat/0.png", "dog/0.png"] and places(found, "test") == ["cat/1.png"]
    file.write_text("file,class\n" + "".join(f"{name}/{i}.png,{name}\n" for name in ("cat", "dog") for i in (0, 1)))
    found = contents(file)
    assert found.is_split and [len(found.parts[part]) for part in ("train", "val")] == [2, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,class\na,b\n", "begins with name,class: its first line must name the columns file,class"),
        ("file,class\ncat/0.png,cat\nnone.png,dog\n", "lists files that are not in .*: none.png"),
        ("file,class\ncat/0.png,cat\ncat/1.png,\n", "line 3: a file and its class are needed"),
        ("file,class,part\ncat/0.png,cat,tran\n", "line 2: part tran: did you mean train"),
        ("file,class\ncat/0.png,cat\n", "has one class folder, cat"),
        ("file,class\ncat/0.png,cat\ncat/0.png,dog\n", "gives cat/0.png two classes, cat and dog"),
        ("file,class\ncat/0.png,cat\ndog/0.png,Cat\n", "the classes Cat and cat, which differ in case alone"),
        ("file,class,part\ncat/0.png,cat,val\ndog/0.png,dog,val\n", "has no picture for training"),
        (
            "file,class\ncat/0.png,cat, big\ndog/0.png,dog, small\n",
            "line 2: more columns than in the first line: quote",
        ),
        ("file,class\ncat/0.png,cat\ncat/1.png,  \n", "line 3: a file and its class are needed"),
        ("file,class,split\ncat/0.png,cat,val\n", "its column split has to be called part"),
        ("file,class,Class\ncat/0.png,cat,dog\n", "has two columns class: keep one"),
        ("file,class,part\ncat/0.png,cat,train\n./cat/0.png,dog,val\n", "gives ./cat/0.png two classes, cat and dog"),
        ("file,class\ncat/0.png,cat\ncat\\0.png,dog\n", "two classes, cat and dog"),
        ("file,class,part\ncat/0.png,a,train\ndog/0.png,b,train\ndog/1.png,c,val\n", "pictures of c for val, and none"),
    ],
)
def test_wrong_csv_files_are_one_line(fill, text, words):
    root = fill("cat", "dog")
    (root / "labels.csv").write_text(text)
    with pytest.raises(SgResnetsError, match=words):
        contents(root / "labels.csv")


def test_empty_columns_at_the_end_of_a_line_are_nothing(fill):
    root = fill("cat", "dog", count=2)
    (root / "labels.csv").write_text(
        "file,class\n" + "".join(f"{n}/{i}.png,{n},,\n" for n in ("cat", "dog") for i in (0, 1))
    )
    assert contents(root / "labels.csv").class_names == ("cat", "dog")


def test_a_csv_file_may_name_its_columns_in_capitals(fill):
    root = fill("cat", "dog", count=2)
    rows = [f"{name}/{i}.png,{name},{('train', 'val')[i]}" for name in ("cat", "dog") for i in (0, 1)]
    (root / "labels.csv").write_text("\n".join(["File, Class ,PART", *rows]))
    found = contents(root / "labels.csv")
    assert not found.is_split and places(found, "val") == ["cat/1.png", "dog/1.png"]


def test_what_is_not_used_is_told(fill):
    root = fill("train/cat", "train/dog", "dev/cat", "bus", count=2)
    for place in ("train/a.png", "b.png", "notes.txt"):
        Image.new("L", (2, 2)).save(root / place, "png")
    beside = f"not used: bus/, dev/, 1 picture in {root} itself, 1 picture in {root / 'train'} itself"
    assert beside in [*describe(contents(root))]
    fill("val")
    with pytest.raises(SgResnetsError, match=r"/val has pictures, and no class folders"):
        contents(root)
    for path in (root / "val").iterdir():
        path.unlink()
    fill("test")  # without classes, as competitions have it
    assert any("test/" in line for line in describe(contents(root)))
    fill(*(f"other{i}" for i in range(9)))
    assert any("bus/, dev/, other0/, other1/, other2/, ... (15 in all)" in line for line in describe(contents(root)))
    flat = fill("flat/cat", "flat/dog", count=2) / "flat"
    Image.new("L", (2, 2)).save(flat / "x.png")
    assert f"not used: 1 picture in {flat} itself" in [*describe(contents(flat))]


def test_a_runs_split_misses_some_pictures_and_no_class(fill, tmp_path):
    root, run = fill("cat", "dog", count=4), tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    rows = [f"{name}/{i}.png,{name},{'val' if i > 1 else 'train'}" for name in ("cat", "dog") for i in range(4)]
    (run / "split.csv").write_text("\n".join(["file,class,part", *rows]))
    assert contents(root, run / "split.csv").missing == 0
    (root / "dog" / "2.png").unlink()
    assert [contents(root, run / "split.csv", part=part).missing for part in (None, "train", "val")] == [1, 0, 1]
    (root / "dog" / "3.png").unlink()
    with pytest.raises(SgResnetsError, match=r"all pictures of dog that the run has for val are gone from .*dog/2.png"):
        contents(root, run / "split.csv", part="val")
    assert len(contents(root, run / "split.csv", part="train").parts["train"]) == 4


def test_one_file_in_two_parts_of_a_list_is_told(fill):
    root = fill("cat", "dog", count=2)
    rows = [f"{name}/{i}.png,{name},train" for name in ("cat", "dog") for i in (0, 1)]
    (root / "labels.csv").write_text("\n".join(["file,class,part", *rows, "./cat/1.png,cat,val", "dog/0.png,dog,test"]))
    found = contents(root / "labels.csv")
    looked = [Looked(str(root / name), "", name) for name in ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")]
    assert [*in_two_parts(looked, found)] == [
        "2 pictures in two parts, such as cat/1.png: the network is tested on what it was trained on"
    ]


def test_what_systems_leave_is_no_picture_and_no_class(fill):
    root = fill(*(f"{part}/{name}" for part in ("train", "val") for name in ("cat", "dog")))
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN"):
        fill(f"train/{name}", f"val/cat/{name}", name)
    for name in ("._0.png", ".x.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (root / "train" / "cat" / name).write_bytes(b"x")
    for name in ("notes.txt", "photo.heic", "README"):
        (root / "val" / "dog" / name).write_bytes(b"x")
    found = contents(root)
    assert found.class_names == ("cat", "dog") and [len(each) for each in found.parts.values()] == [10, 10]
    assert found.left_out == {".txt": 1, ".heic": 1, "no ending": 1}


def test_folders_within_and_links_in_a_circle_are_followed(fill):
    root = fill("cat/young", "cat/old", "dog")
    (root / "cat" / "young" / "again").symlink_to(root / "cat")
    assert [picture.label for part in contents(root).parts.values() for picture in part].count(0) == 10


def test_accents_in_two_forms_are_one_class_between_parts_and_refused_within_one(fill):
    composed, apart = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))
    root = fill(f"train/{composed}", "train/Brot", f"val/{apart}", "val/Brot")
    assert contents(root).class_names == ("Brot", composed)
    fill(f"train/{apart}")
    with pytest.raises(SgResnetsError, match="two folders Käse, whose accents are stored in two ways"):
        contents(root)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        ([], "no class folders, and two are needed at least; expected .*/train/<class>/ and .*/val/<class>/, or"),
        (["cat"], "one class folder, cat, and two"),
        (["train", "val"], "train has no class folders; expected"),
        (["train/cat", "train/dog", "val/cat"], "train/ and val/ of .* differ in the classes dog"),
        (
            ["train/cat", "train/dog", "val/cat", "val/dog", "test/cow"],
            "train/ and test/ of .* differ in the classes cow",
        ),
        (["train/cat", "train/dog", "val/Cat", "val/dog"], "the classes cat and Cat, which differ in case alone"),
        (["cat", "Cat", "dog"], "which differ in case alone"),
        (["train/a", "train/b", "val/a", "val/b", "valid/a"], "has val and valid, which mean the same"),
    ],
)
def test_folders_that_cannot_be_used_are_one_line(fill, tmp_path, folders, words):
    with pytest.raises(SgResnetsError, match=words) as error:
        contents(fill(*folders))
    assert "\n" not in str(error.value)


def test_missing_folders_parts_and_lonely_pictures_are_named(fill, tmp_path):
    with pytest.raises(SgResnetsError, match=r"there is no folder .*nowhere"):
        contents(tmp_path / "nowhere")
    root = fill("cat", "dog")
    with pytest.raises(SgResnetsError, match=r"has no test part: .*valid: train, val"):
        contents(root).part("test")
    fill("cow", count=1)
    with pytest.raises(SgResnetsError, match=r"the class cow has one picture, .*cow/0\.png: two are needed"):
        contents(root)
    (root / "cow" / "0.png").rename(root / "cow" / "0.txt")
    with pytest.raises(SgResnetsError, match=r"cow has no pictures, only 1 \.txt: put some into it"):
        contents(root)


def test_a_folder_that_cannot_be_read_is_one_line(fill, monkeypatch):
    root, scandir = fill("cat", "dog"), os.scandir

    def refusing(folder):
        if Path(folder).name == "dog":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(SgResnetsError, match=r"dog cannot be read \(Permission denied\): change its permissions"):
        contents(root)


def test_a_csv_file_of_windows_is_read(fill):
    root = fill("cat", "dog", count=2)
    rows = [f"{name}\\{i}.png,{name}" for name in ("cat", "dog") for i in (0, 1)]
    (root / "labels.csv").write_bytes(("\ufeff" + "\r\n".join(["file,class", *rows])).encode())
    found = contents(root / "labels.csv")
    assert found.class_names == ("cat", "dog") and sorted(len(each) for each in found.parts.values()) == [2, 2]


def test_a_class_may_be_called_train(fill):
    assert contents(fill("bus", "car", "train")).class_names == ("bus", "car", "train")


@pytest.mark.parametrize("wrong", [0, 1, 20, -0.1, "half"])
def test_a_wrong_fraction_is_refused(fill, wrong):
    with pytest.raises(SgResnetsError, match=r"val_fraction=.*: must be a number > 0 and < 1"):
        contents(fill("cat", "dog"), val_fraction=wrong)
