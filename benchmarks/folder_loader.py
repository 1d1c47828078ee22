"""Images a second of a folder of pictures, against torchvision's ImageFolder with its v2 transforms; and how long the
loop of a training waits for its batches.

Run: python benchmarks/folder_loader.py [ROUNDS], after `pip install scikit-image scikit-learn`, whose photographs are
cut into 2,000 JPEGs of about 500x375 pixels. All loaders have the same batches and workers, and go over the pictures in
turn; each round gives a ratio. torchvision's has its pictures as tensors before they are cropped, the faster of the two
ways its documentation shows.
"""

import statistics
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from common import now, place, ratio, train_recipe
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from sg_resnets.data import whole_batch
from sg_resnets.data.image_folder import IMAGENET_MEAN, IMAGENET_STD, ImageFolderImages

PICTURES, BATCH, WORKERS, SIZE = 2000, 32, 2, 224
PHOTOGRAPHS = {
    "skimage": ["astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "motorcycle_left", "retina", "ihc"],
    "sklearn": ["china", "flower"],
}
