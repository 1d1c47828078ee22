"""`predict` fails after training on a torchvision data set with a CenterCrop or a Resize of two sides.

torchvision stores (224, 224), `int()` of which raises; the host swallows that, and predict() then says 'You must set
the dataset processing parameters before calling predict'.
"""

FAULT = "CenterCrop/Resize of a torchvision data set break predict(): int() of a tuple in torchvision_utils.py"


def present() -> bool:
    from super_gradients.training.datasets.classification_datasets import torchvision_utils
    from torchvision.transforms import CenterCrop

    try:
        torchvision_utils.get_torchvision_transforms_equivalent_processing([CenterCrop(32)])
    except TypeError:
        return True
    return False


def repair() -> None:
    import copy

    from super_gradients.training.datasets.classification_datasets import torchvision_utils
    from torchvision.transforms import CenterCrop, Resize

    from sg_resnets.compat.patching import wrap_function

    def one_side(transform):
        size = getattr(transform, "size", None)
        if isinstance(transform, CenterCrop | Resize) and isinstance(size, list | tuple) and len(set(size)) == 1:
            transform = copy.copy(transform)
            transform.size = size[0]
        return transform

    def make(original):
        def get_torchvision_transforms_equivalent_processing(transforms):
            transforms = getattr(transforms, "transform", transforms)  # a data set's StandardTransform
            transforms = getattr(transforms, "transforms", transforms)  # a Compose
            return original([one_side(transform) for transform in transforms])

        return get_torchvision_transforms_equivalent_processing

    wrap_function(torchvision_utils, "get_torchvision_transforms_equivalent_processing", make)
