"""A resumed run repeats the random numbers of its first epochs: the host seeds when training starts, so epoch k of a
run that is resumed there shuffles as epoch 0 did. Seeded at each epoch, an interrupted run ends as any other; but for
what workers that outlive an epoch (`persistent_workers`) augment, and batches that `batch_accumulate` left over. Under
DDP the order was the same for all seeds.
"""

FAULT = "a resumed run shuffles and drops as its first epochs did: seeded once, when Trainer.train starts"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    return "seed" not in inspect.getsource(Trainer._train_epoch)


def repair() -> None:
    from super_gradients.common.data_types.enum import MultiGPUMode
    from super_gradients.common.environment.device_utils import device_config
    from super_gradients.training.sg_trainer.sg_trainer import Trainer
    from super_gradients.training.utils import utils
    from torch.utils.data.distributed import DistributedSampler

    from sg_resnets.compat.patching import wrap_method

    def make(original):
        def _train_epoch(self, context, silent_mode=False):
            is_ddp = device_config.multi_gpu == MultiGPUMode.DISTRIBUTED_DATA_PARALLEL
            seed = self.training_params.seed
            # 1000 seeds of one epoch's processes lie between those of two epochs.
            utils.random_seed(is_ddp, device_config.device, seed + 1000 * context.epoch)
            sampler = getattr(self.train_loader.batch_sampler, "sampler", None)
            if isinstance(sampler, DistributedSampler):
                sampler.seed = seed
            return original(self, context, silent_mode)

        return _train_epoch

    wrap_method(Trainer, "_train_epoch", make)
