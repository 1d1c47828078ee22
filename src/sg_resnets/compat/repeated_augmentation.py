"""Repeated augmentation (RepeatAugSampler): an epoch as long as any other, of a part of the images, each several times.

The sampler splits by rank itself, and the host splits once more: an epoch of N processes is 1/N as long, and always of
the same images, as `set_epoch` reaches the wrapper alone. In one process it ends with 'Default process group has not
been initialized', and with fewer images than `selected_round`, 256, an epoch has none.
"""

FAULT = "RepeatAugSampler: split twice under DDP, the same images in every epoch; an error in one process"


def present() -> bool:
    import inspect

    from super_gradients.training.datasets.samplers import RepeatAugSampler

    return "is_initialized" not in inspect.getsource(RepeatAugSampler)


def repair() -> None:
    import warnings

    from super_gradients.common.environment.ddp_utils import get_local_rank, get_world_size
    from super_gradients.training.dataloaders import dataloaders
    from super_gradients.training.datasets.samplers import DistributedSamplerWrapper, RepeatAugSampler
    from super_gradients.training.sg_trainer.sg_trainer import Trainer

    from sg_resnets.compat.patching import wrap_function, wrap_method

    def in_one_process_too(original):
        def __init__(
            self,
            dataset,
            num_replicas=None,
            rank=None,
            shuffle=True,
            num_repeats=3,
            selected_round=256,
            selected_ratio=0,
        ):
            num_replicas = get_world_size() if num_replicas is None else num_replicas
            rank = get_local_rank() if rank is None else rank
            selected_round = selected_round if selected_round <= len(dataset) else 0
            original(self, dataset, num_replicas, rank, shuffle, num_repeats, selected_round, selected_ratio)

        return __init__

    def unwrapped(original):
        def _instantiate_sampler(dataset, dataloader_params):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*RepeatAugSampler that appears not to fit")
                params = original(dataset, dataloader_params)
            sampler = params["sampler"]
            if isinstance(sampler, DistributedSamplerWrapper) and isinstance(sampler.sampler, RepeatAugSampler):
                params["sampler"] = sampler.sampler
            return params

        return _instantiate_sampler

    def with_the_epoch(original):
        """The host tells samplers the epoch under DDP alone."""

        def _train_epoch(self, context, silent_mode=False):
            sampler = getattr(self.train_loader.batch_sampler, "sampler", None)
            if isinstance(sampler, RepeatAugSampler):
                sampler.set_epoch(context.epoch + 1000 * self.training_params.seed)  # all that it is seeded with
            return original(self, context, silent_mode)

        return _train_epoch

    wrap_method(RepeatAugSampler, "__init__", in_one_process_too)
    wrap_function(dataloaders, "_instantiate_sampler", unwrapped)
    wrap_method(Trainer, "_train_epoch", with_the_epoch)
