"""A picture from a file is what a person sees."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from sg_resnets.data.image_folder import read_pixels
from sg_resnets.data.pictures import ORIENTATION, endings, read_rgb
from sg_resnets.utils.errors import SgResnetsError

NOISE = np.random.default_rng(0).integers(256, size=(24, 40, 3), dtype=np.uint8)


def seen(image, path, **options):
    image.save(path, **options)
    pixels = read_pixels(path)
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(read_rgb(path)))  # in training and in predict
    return np.asarray(read_rgb(path))


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_exif_data_says(tmp_path, ending, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(ending, {})
    turned = seen(Image.fromarray(NOISE), tmp_path / f"a.{ending}", exif=exif, **options)
    with Image.open(tmp_path / f"a.{ending}") as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(turned, upright)
    assert turned.shape == ((40, 24, 3) if orientation > 4 else (24, 40, 3))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    black = Image.new("RGBA", (8, 6), (0, 0, 0, 0))
    black.paste((200, 200, 200, 255), (0, 0, 4, 6))
    image = black.convert(mode) if mode != "P" else black.convert("P")
    ending = "tif" if mode == "PA" else "png"
    options = {"transparency": black.convert("P").getpixel((7, 0))} if mode == "P" else {}
    pixels = seen(image, tmp_path / f"a.{ending}", **options)
    assert (pixels[:, 4:] == 255).all() and abs(int(pixels[0, 0, 0]) - 200) < 8


def test_a_colour_that_counts_as_transparent_is_white(tmp_path):
    image = Image.new("RGB", (8, 6), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 4, 6))
    pixels = seen(image, tmp_path / "a.png", transparency=(255, 0, 0))
    assert (pixels[:, :4] == 255).all() and (pixels[:, 4:] == (0, 0, 255)).all()


def test_half_transparent_is_half_white(tmp_path):
    assert (seen(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), tmp_path / "a.png") == 127).all()


def test_other_depths_keep_their_steps(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for name in ("ramp.png", "ramp.tif"):
        assert np.array_equal(seen(Image.fromarray(ramp), tmp_path / name)[..., 1], ramp >> 8)
    for kind, name in ((np.uint16, "c.png"), (np.int32, "c.tif")):  # 8 bits that are stored in more
        assert np.array_equal(seen(Image.fromarray((ramp >> 8).astype(kind)), tmp_path / name)[..., 0], ramp >> 8)
    shares = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert np.array_equal(seen(Image.fromarray(shares), tmp_path / "a.tif")[..., 0].ravel(), np.arange(256))
    assert np.array_equal(seen(Image.fromarray(ramp.astype(np.int32)), tmp_path / "b.tif")[..., 0], ramp >> 8)
    assert {*np.unique(seen(Image.fromarray(NOISE[..., 0] > 128), tmp_path / "bits.png"))} == {0, 255}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.float32([[0, 200.5]]), "floats from 0 to 200.5: store them as 0 to 1, or as 8-bit"),
        (np.float32([[0, np.nan]]), "floats from nan to nan"),
        (np.int32([[-5, 7]]), "integers from -5 to 7: store them as 8-bit or 16-bit"),
        (np.int32([[0, 70000]]), "integers from 0 to 70000"),
    ],
)
def test_numbers_of_an_unknown_range_are_refused(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(SgResnetsError, match=words):
        read_rgb(tmp_path / "a.tif")


def test_print_colours_palettes_grey_and_moving_pictures_are_read(tmp_path):
    colour = Image.new("RGB", (8, 8), (250, 20, 20))
    for name, image in {"cmyk.jpg": colour.convert("CMYK"), "palette.png": colour.convert("P"),
                        "cmyk.tif": colour.convert("CMYK")}.items():  # fmt: skip
        red, green, blue = seen(image, tmp_path / name)[4, 4].tolist()
        assert red > 200 and max(green, blue) < 60, name
    grey = seen(Image.fromarray(NOISE[..., 0]), tmp_path / "grey.jpg", quality=95)
    assert grey.shape == (24, 40, 3) and np.array_equal(grey[..., 0], grey[..., 2])
    moving = seen(colour, tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert moving[0, 0, 0] > 200


def test_every_ending_that_pillow_reads_counts():
    assert {".jpg", ".jfif", ".png", ".gif", ".webp", ".tif", ".bmp", ".ppm"} <= endings()
    assert not {".txt", ".csv", ".pdf", ".mpg", ".h5"} & endings()


def test_a_picture_over_pillows_limit_says_so(tmp_path, monkeypatch):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(SgResnetsError, match="it has more than the 200 pixels that Pillow opens"):
        read_rgb(tmp_path / "a.png")
