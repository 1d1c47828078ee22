"""SuperGradients' own pretrained weights, for all of its networks: from where they are today, verified, and read as
data. It asks a server that is gone, takes whatever has arrived for the file, and runs the code in it: torch.hub's
`load_state_dict_from_url` reads with `weights_only=False`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlparse

import torch
from super_gradients.common.environment.ddp_utils import get_local_rank
from super_gradients.training.models import model_factory
from super_gradients.training.models.detection_models import csp_resnet
from super_gradients.training.models.detection_models.csp_resnet import CSPResNetBackbone
from super_gradients.training.pretrained_models import MODEL_URLS, PRETRAINED_NUM_CLASSES
from super_gradients.training.utils import checkpoint_utils
from super_gradients.training.utils.distributed_training_utils import wait_for_the_master
from torch import nn

from sg_resnets.host.patching import Patch, Put, Repair
from sg_resnets.runs import checkpoints
from sg_resnets.utils.downloads import fetched

# Where SuperGradients' files are today (LibreYOLO and others download them there); where 3.7.1 asks for them, which is
# gone, and the source after it, which answers 403 (github.com/marcoslucianops/DeepStream-Yolo, pull request 616); where
# PP-YOLOE's backbones were.
ADDRESS = "https://d2gjn4b69gu75n.cloudfront.net/models/"
FORMER_ADDRESSES = ("https://sghub.deci.ai/models/", "https://sg-hub-nv.s3.amazonaws.com/models/")
BACKBONES = "https://deci-pretrained-models.s3.amazonaws.com/"

# SuperGradients publishes no checksums. These are of the files at ADDRESS, as the project LibreYOLO states them: YOLO-
# NAS's without a date, the others' of August 2026 (github.com/LibreYOLO/libreyolo: libreyolo/models/yolonas/model.py,
# ppyoloe/model.py, weights/convert_dekr_weights.py, convert_ppliteseg_weights.py). None was found for other files.
SHA256 = {
    "dekr_w32_no_dc_coco_pose.pth": "e5c4797205ddabd5efcebee470ee669c657e6b62f03948d57996e7d9f4022a6b",
    "pp_lite_b_seg50_cityscapes.pth": "f7a6769dd37290ee1145c5f1aa2a669b5421591d3afaf8629910614405fe7122",
    "pp_lite_b_seg75_cityscapes.pth": "383bfb69b3ffb643224dbf76047acacd9b48a1564958a20f1aca69c5453dca3e",
    "pp_lite_t_seg50_cityscapes.pth": "ae9ad0cae645ebdfb8de661e8dbf1c33e08c0d90997954429b467e70e9ca4194",
    "pp_lite_t_seg75_cityscapes.pth": "1fdd809572a1b3168727ed0dea32da287c9917ed0ebbfdf8ecab87a3116733f6",
    "ppyoloe_l_coco.pth": "fcd6e7e36c90ef965198e1523e2978ab87e4e10ed75cc2d8a00a690e78b71a31",
    "ppyoloe_m_coco.pth": "742978ab9eea199252ca160ff4e55546f7a78d10203511d91d0980c300d31873",
    "ppyoloe_s_coco.pth": "f58a1a44bdaf66f80180346cf4548be3066fd30e742f329ee1b3a37fb4cdab28",
    "ppyoloe_x_coco.pth": "ac65ea5f383eb28d69b5cf50ed124cc827f630d73d435f41eea76c3a9c0acf8e",
    "yolo_nas_l_coco.pth": "91a06beaa1ce1a651d6691e3198061da996eafc8890503238dedacbd4c392a32",
    "yolo_nas_m_coco.pth": "b194fc7fa196f76161c6356558bedf04fb99a62325a74a36a4bec3ca8ba48250",
    "yolo_nas_pose_l_coco_pose.pth": "d05c55157b3eb917e43d3669cc1e99fbe35a8a93c7883b95b93036a81216c5ab",
    "yolo_nas_pose_m_coco_pose.pth": "6d0f92a589fd2f39a9fb92c42894cca76e81eaf2fcb3a00f1cac2e7089fb91ec",
    "yolo_nas_pose_n_coco_pose.pth": "3544cd4bef7a4930e79c2d9a9ec50167be6fa366be834d52d462393edfc3a64f",
    "yolo_nas_pose_s_coco_pose.pth": "54f0933cb3760c5f9ba47e901c58d6d114cd206718667a586031bea0ab9ea849",
    "yolo_nas_s_coco.pth": "c1b1d9148ab8ae5d5984699547e850955ff9efccaf568c67b3d605acb4bfe1cb",
}

_replaced: ContextVar[bool] = ContextVar("replaced", default=False)


def current_address(url: str) -> str:
    """Return where a file of SuperGradients' former servers is today; other addresses as they are."""
    for former in FORMER_ADDRESSES:
        url = url.replace(former, ADDRESS)
    return url


def fetched_weights(url: str) -> AbstractContextManager[Path]:
    """Return `fetched` for a file of SuperGradients, or for one of somebody else, which no mirror has."""
    url = current_address(url)
    name = Path(urlparse(url).path).name
    if not url.startswith((ADDRESS, BACKBONES)):  # two of somebody else's may have one name
        return fetched(url, f"{sha256(url.encode()).hexdigest()[:8]}_{name}", mirrored=False)
    return fetched(url, name, SHA256.get(name, "") if url.startswith(ADDRESS) else "")


def read_url(url: str, map_location: Any = "cpu", **options: Any) -> dict[str, Any]:
    """Return what the checkpoint at an address holds, as `checkpoints.read`, in place of torch.hub's
    `load_state_dict_from_url`, whose other options have no meaning here; of several processes one downloads it.

    Raises:
        SgResnetsError: it cannot be had, is damaged, or holds more than data.
    """
    with wait_for_the_master(get_local_rank()), fetched_weights(url) as path:
        return checkpoints.read(path, map_location)


def load_verified_weights(
    original: Callable[..., None], model: nn.Module, architecture: str, pretrained_weights: str
) -> None:
    """Load SuperGradients' weights from a verified file, which MODEL_URLS names during the call: SuperGradients takes a
    path there, but of addresses its old one alone."""
    key = f"{architecture}_{pretrained_weights}"
    url = MODEL_URLS.get(key, "")
    with ExitStack() as stack:
        if url.startswith(("https://", "http://")):
            stack.enter_context(wait_for_the_master(get_local_rank()))
            path = stack.enter_context(fetched_weights(url))
            Put(MODEL_URLS, key, str(path)).install(stack)
        original(model, architecture, pretrained_weights)


class DataOnly:
    """torch for the modules that read weights, but that code in them is never run."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(path: str, map_location: Any = "cpu") -> dict[str, Any]:
        """Read a checkpoint."""
        return checkpoints.read(path, map_location)


class BackboneOnly(DataOnly):
    """The same for PP-YOLOE's backbone, whose files are bare state dicts."""

    @staticmethod
    def load(path: str, map_location: Any = "cpu") -> dict[str, Any]:
        """Read a state dict."""
        return checkpoints.read(path, map_location)["net"]

    hub = SimpleNamespace(load_state_dict_from_url=lambda *args, **options: read_url(*args, **options)["net"])


def replace_all_weights(
    original: Callable[..., Any],
    model_name: str,
    arch_params: Any,
    num_classes: int | None,
    pretrained_weights: str | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Build a network for pretrained weights without those of its backbone, which would be replaced, and note whether
    it then has a new classifier."""
    token = _replaced.set(bool(pretrained_weights))
    try:
        network = original(model_name, arch_params, num_classes, pretrained_weights, *args, **kwargs)
    finally:
        _replaced.reset(token)
    if pretrained_weights in PRETRAINED_NUM_CLASSES:
        asked = num_classes or (arch_params or {}).get("num_classes")
        network.head_is_new = asked not in (None, PRETRAINED_NUM_CLASSES[pretrained_weights])
    return network


def leave_out_replaced(original: Callable[..., None], self: CSPResNetBackbone, *args: Any, **kwargs: Any) -> None:
    """Build PP-YOLOE's backbone without its own weights where others are loaded over them."""
    if _replaced.get():
        kwargs["pretrained_weights"] = None
    original(self, *args, **kwargs)


REPAIRS = (
    Repair(
        "weights",
        "SuperGradients' own weights are asked of a server that is gone, half a file is taken for the whole, and code "
        "in it is run",
        [
            *(Put(MODEL_URLS, key, current_address(url)) for key, url in MODEL_URLS.items()),
            Patch(checkpoint_utils, "load_pretrained_weights", load_verified_weights),
            Put(checkpoint_utils, "load_state_dict_from_url", read_url),
            Put(checkpoint_utils, "torch", DataOnly()),
            Put(csp_resnet, "torch", BackboneOnly()),
            Patch(CSPResNetBackbone, "__init__", leave_out_replaced),
            Patch(model_factory, "instantiate_model", replace_all_weights),
        ],
    ),
)
