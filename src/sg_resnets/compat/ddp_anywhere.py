"""Training on many processes, on CPUs (gloo) as on GPUs (NCCL), started by the recipe or by torchrun.

The host refuses several processes on CPUs; under torchrun it then trains on, each process for itself, without a word.
On GPUs it looks for unused parameters in every step, evaluates with padded data and each process with batch-norm
statistics of its own, seeds by the rank within the node, answers a process that died with a page of traceback, and in
each process of a sweep's job runs the whole sweep.
"""

FAULT = "no distributed training on CPUs, unsynchronised under torchrun; find_unused_parameters always on"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    return "find_unused_parameters=True" in inspect.getsource(Trainer._net_to_device)


def show_each_once(loader) -> None:
    """Have a loader for evaluation go over its data once. PyTorch's DistributedSampler repeats some samples, so that
    all processes have as many, and their accuracy is then not that of the data."""
    from torch.utils.data.distributed import DistributedSampler

    sampler = getattr(loader.batch_sampler, "sampler", None)
    if isinstance(sampler, DistributedSampler) and not sampler.drop_last:
        loader.batch_sampler.sampler = range(sampler.rank, len(loader.dataset), sampler.num_replicas)


def repair() -> None:
    import os
    import random
    import sys

    import numpy as np
    import torch
    import torch.distributed as dist
    from hydra._internal.utils import get_args_parser
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from super_gradients.common.abstractions.abstract_logger import get_logger
    from super_gradients.common.abstractions.mute_processes import mute_current_process
    from super_gradients.common.data_types.enum import MultiGPUMode
    from super_gradients.common.environment.argparse_utils import EXTRA_ARGS
    from super_gradients.common.environment.ddp_utils import find_free_port, init_trainer, is_distributed
    from super_gradients.common.environment.device_utils import device_config
    from super_gradients.common.factories.type_factory import TypeFactory
    from super_gradients.training.sg_trainer.sg_trainer import Trainer
    from super_gradients.training.utils import distributed_training_utils as host_ddp
    from super_gradients.training.utils import get_param
    from super_gradients.training.utils import utils as host_utils
    from super_gradients.training.utils.utils import unwrap_model
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    from torch.nn.parallel import DistributedDataParallel

    from sg_resnets.compat.patching import wrap_function, wrap_method, wrap_recipe_entries
    from sg_resnets.errors import SgResnetsError

    logger = get_logger(__name__)
    DDP = MultiGPUMode.DISTRIBUTED_DATA_PARALLEL

    def on_any_device(original):
        def setup_device(multi_gpu=None, num_gpus=None, device="cuda"):
            on_cpu = device == "cpu" or not torch.cuda.is_available()
            mode = TypeFactory(MultiGPUMode.dict()).get(multi_gpu)
            least = 1 if mode == DDP else 0  # the host's setup_device(num_gpus=0) means the CPU
            if num_gpus not in (None, -1) and not (type(num_gpus) is int and num_gpus >= least):
                raise SgResnetsError(f"num_gpus={num_gpus}: must be a whole number from 1 on, or -1 for all")
            if not on_cpu or not (is_distributed() or mode == DDP):
                return original(multi_gpu, num_gpus, device)
            init_trainer()
            device_config.device, device_config.multi_gpu = "cpu", DDP
            if not is_distributed():
                launch(processes_on_cpu(num_gpus))
            if device_config.assigned_rank > 0:
                mute_current_process()
            join("gloo")
            take_the_global_rank()
            device_config.num_gpus = dist.get_world_size()

        return setup_device

    def processes_on_cpu(wanted):
        cores = os.cpu_count() or 1
        processes = cores if wanted in (None, -1) else wanted
        if processes > cores:
            raise SgResnetsError(f"num_gpus={processes} processes, but there is no GPU and {cores} cores: use fewer")
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
        logger.info(f"Training with {processes} processes on the CPU")
        return processes

    def join(backend):
        if dist.is_initialized():
            return
        try:
            dist.init_process_group(backend=backend, init_method="env://")
        except (RuntimeError, ValueError) as error:
            if "EADDRINUSE" in str(error) or "in use" in str(error):
                port = os.environ.get("MASTER_PORT")
                raise SgResnetsError(f"port {port} is in use: give another, torchrun --master-port=PORT") from error
            raise

    def take_the_global_rank():
        """The host takes a process's rank in its node for its rank: on a second node it refuses to train."""
        if device_config.assigned_rank == 0 < dist.get_rank():
            mute_current_process()
        device_config.assigned_rank = dist.get_rank()

    def in_a_sweep():
        return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN

    def command():
        """What each process runs: this command; for a job of a sweep without `-m`, and with the job's values alone."""
        if not in_a_sweep():
            return sys.argv
        typed, _ = get_args_parser().parse_known_args(sys.argv[1:])
        if not typed.multirun:  # the command is the launcher's own, such as Slurm's, and runs this job alone
            return sys.argv
        job = HydraConfig.get()
        given = {f"--config-{word}": getattr(typed, f"config_{word}") for word in ("path", "name", "dir")}
        options = [f"{option}={value}" for option, value in given.items() if value]
        of_hydra = [override for override in job.overrides.hydra if not override.startswith("hydra.mode=")]
        folder = job.runtime.output_dir.replace("'", r"\'")
        return [sys.argv[0], *options, *of_hydra, f"hydra.run.dir='{folder}'", *job.overrides.task]

    def launch(processes):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="sg_initiated",
            rdzv_backend="static",
            rdzv_endpoint=f"127.0.0.1:{find_free_port()}",
            rdzv_configs={"rank": 0, "timeout": 900},
            max_restarts=0,
            monitor_interval=1,
            start_method="spawn",
        )
        try:
            elastic_launch(config, entrypoint=sys.executable)(*command(), *EXTRA_ARGS)
        except SignalException as stop:
            print("Stopped; what was saved is in the run's folder, to be resumed.", file=sys.stderr)
            sys.exit(128 + stop.sigval)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            why = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
            print(
                f"Process {rank} of {processes} ended with {why}; the others were stopped. Its own message, if it had "
                "time for one, is above; what was saved is in the run's folder, to be resumed.",
                file=sys.stderr,
            )
            sys.exit(1)
        sys.exit(0)

    def with_one_line(original):
        def restart_script_with_ddp(num_gpus=None):
            there = torch.cuda.device_count()
            if num_gpus is not None and num_gpus > there:
                raise SgResnetsError(f"num_gpus={num_gpus}, but there are {there} GPUs: set num_gpus={there}")
            launch(num_gpus or there)

        return restart_script_with_ddp

    def initialised(original):
        def initialize_ddp():
            join("nccl")
            device_config.assigned_rank = int(os.environ.get("LOCAL_RANK", device_config.assigned_rank))
            original()  # takes the GPU of this number
            take_the_global_rank()

        return initialize_ddp

    def in_ddp(original):
        def _net_to_device(self):
            if device_config.multi_gpu != DDP:
                return original(self)
            self.net.to(device_config.device)
            if get_param(self.training_params, "sync_bn", False) and device_config.is_cuda:
                self.net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.net)
            self.net = DistributedDataParallel(
                self.net,
                device_ids=[int(device_config.device.split(":")[1])] if device_config.is_cuda else None,
                find_unused_parameters=bool(get_param(self.training_params, "find_unused_parameters", False)),
            )

        return _net_to_device

    def with_the_statistics_of_rank_0(original):
        """Evaluation needs no synchronisation, so that processes may have other numbers of batches. All evaluate with
        the batch-norm statistics of rank 0: each has its own images', and rank 0's are saved."""

        def evaluate(self, data_loader, *args, **kwargs):
            if device_config.multi_gpu != DDP:
                return original(self, data_loader, *args, **kwargs)
            net, self.net = self.net, unwrap_model(self.net)
            show_each_once(data_loader)
            for buffer in self.net.buffers():
                dist.broadcast(buffer, 0)
            try:
                return original(self, data_loader, *args, **kwargs)
            finally:
                self.net = net

        return evaluate

    def by_rank(original):
        def random_seed(is_ddp, device, seed):
            seed += dist.get_rank() if is_ddp and dist.is_initialized() else 0
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)

        return random_seed

    def one_of_several(original):
        """A job whose work is done in other processes ends, not the sweep."""

        def run(cls, cfg, *args, **kwargs):
            try:
                return original(cls, cfg, *args, **kwargs)
            except SystemExit as end:
                if end.code or not in_a_sweep():
                    raise
                return None

        return run

    wrap_recipe_entries(one_of_several)
    wrap_function(host_ddp, "setup_device", on_any_device)
    wrap_function(host_ddp, "restart_script_with_ddp", with_one_line)
    wrap_function(host_ddp, "initialize_ddp", initialised)
    wrap_function(host_utils, "random_seed", by_rank)
    wrap_method(Trainer, "_net_to_device", in_ddp)
    wrap_method(Trainer, "evaluate", with_the_statistics_of_rank_0)
