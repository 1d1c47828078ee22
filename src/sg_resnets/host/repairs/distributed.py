"""Training in several processes: on CPUs (gloo) as on GPUs (NCCL), started by the recipe or by torchrun.

SuperGradients' `get_local_rank()` returns the *global* rank (common/environment/ddp_utils.py); only its name is wrong.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

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
from super_gradients.training.datasets.samplers import DistributedSamplerWrapper
from super_gradients.training.sg_trainer.sg_trainer import Trainer
from super_gradients.training.utils import distributed_training_utils as host_ddp
from super_gradients.training.utils import get_param
from super_gradients.training.utils import utils as host_utils
from super_gradients.training.utils.utils import unwrap_model
from torch import nn
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from sg_resnets.host.patching import Patch, Repair
from sg_resnets.host.preemption import EXIT_CODES
from sg_resnets.host.repairs.samplers import sampler_of
from sg_resnets.utils.checks import integer
from sg_resnets.utils.errors import SgResnetsError
from sg_resnets.utils.hardware import cpu_cores

DDP = MultiGPUMode.DISTRIBUTED_DATA_PARALLEL
RUN_ID = "sg_initiated"  # by which SuperGradients knows the processes that it started (ddp_utils.py)
STOPPED = "Stopped; what was saved is in the run's folder, to be resumed."
JOIN_SECONDS = 900  # SuperGradients' own
SECONDS_OF_GLOO = 0.2
logger = get_logger(__name__)


# Starting the processes.


def in_sweep() -> bool:
    """Whether this is one job of a sweep (Hydra's `-m`)."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def worker_command() -> list[str]:
    """Return this command; for one job of a sweep without `-m`, and with the values of that job alone."""
    if not in_sweep():
        return sys.argv
    typed, _ = get_args_parser().parse_known_args(sys.argv[1:])
    if not typed.multirun:  # a launcher such as Slurm's started this job, and runs it alone
        return sys.argv
    job = HydraConfig.get()
    config = [
        f"--config-{key}={value}" for key in ("path", "name", "dir") if (value := getattr(typed, f"config_{key}"))
    ]
    hydra = [override for override in job.overrides.hydra if not override.startswith("hydra.mode=")]
    folder = job.runtime.output_dir.replace("'", r"\'")
    return [sys.argv[0], *config, *hydra, f"hydra.run.dir='{folder}'", *job.overrides.task]


def describe_failure(error: ChildFailedError, processes: int) -> str:
    """Return a line that says which process failed, and how."""
    rank, failure = error.get_first_failure()
    cause = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    return (
        f"Process {rank} of {processes} ended with {cause}; the others were stopped. Its own message, if it had time "
        f"for "
        "one, is above; what was saved is in the run's folder, to be resumed."
    )


def launch(processes: int) -> NoReturn:
    """Run this command in so many processes, wait for them, and end as they did."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=RUN_ID,
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{find_free_port()}",
        rdzv_configs={"rank": 0, "timeout": JOIN_SECONDS},
        max_restarts=0,
        monitor_interval=1,
        start_method="spawn",
    )
    try:
        elastic_launch(config, entrypoint=sys.executable)(*worker_command(), *EXTRA_ARGS)
    except SignalException as stop:
        print(STOPPED, file=sys.stderr)
        sys.exit(128 + stop.sigval)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        if code in EXIT_CODES:  # a process was asked to end, and all of them have saved
            print(STOPPED, file=sys.stderr)
            sys.exit(code)
        sys.exit(describe_failure(error, processes))
    sys.exit(0)


def check_processes(number: Any, least: int) -> None:
    """Refuse a `num_gpus` that is no number of processes.

    Raises:
        SgResnetsError: it is neither an integer >= `least`, nor -1.
    """
    if number not in (None, -1) and not (type(number) is int and number >= least):
        raise SgResnetsError(f"num_gpus={number}: must be an integer >= 1, or -1 for all")


def processes_for_cpu(wanted: int | None) -> int:
    """Return how many processes to start, and give each its part of the cores.

    Raises:
        SgResnetsError: more than there are cores.
    """
    cores = cpu_cores()
    processes = cores if wanted in (None, -1) else wanted
    if processes > cores:
        raise SgResnetsError(f"num_gpus={processes} processes, but there is no GPU and {cores} cores: use fewer")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    logger.info(f"Training with {processes} processes on the CPU")
    return processes


# Joining them.


def join(backend: str) -> None:
    """Initialise the process group, once. Processes that torchrun has started again look for each other anew: what it
    keeps for them still has the addresses of those that have died.

    Raises:
        SgResnetsError: its port is in use.
    """
    if dist.is_initialized():
        return
    try:
        store, rank, size = next(dist.rendezvous("env://"))
        attempt = dist.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group(backend, store=attempt, rank=rank, world_size=size)
    except (RuntimeError, ValueError) as error:
        if "EADDRINUSE" not in str(error) and "in use" not in str(error):
            raise
        port = os.environ.get("MASTER_PORT")
        raise SgResnetsError(f"port {port} is in use: give another, torchrun --master-port=PORT") from error


def adopt_global_rank() -> None:
    """Be known by the global rank: SuperGradients takes that within the node, and refuses to train on a second one."""
    if device_config.assigned_rank == 0 < dist.get_rank():
        mute_current_process()
    device_config.assigned_rank = dist.get_rank()


# The patches.


def set_up_cpu_processes(
    original: Callable[..., None],
    multi_gpu: MultiGPUMode | str | None = None,
    num_gpus: int | None = None,
    device: str | None = "cuda",
) -> None:
    """Set up GPUs as before, and several processes on CPUs too."""
    mode = TypeFactory(MultiGPUMode.dict()).get(multi_gpu)
    check_processes(num_gpus, least=1 if mode == DDP else 0)  # setup_device(num_gpus=0) means the CPU
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if not on_cpu or not (is_distributed() or mode == DDP):
        return original(multi_gpu, num_gpus, device)
    init_trainer()
    device_config.device, device_config.multi_gpu = "cpu", DDP
    if not is_distributed():
        launch(processes_for_cpu(num_gpus))
    if device_config.assigned_rank > 0:
        mute_current_process()
    join("gloo")
    adopt_global_rank()
    device_config.num_gpus = dist.get_world_size()


def restart_on_gpus(original: Callable[..., None], num_gpus: int | None = None) -> NoReturn:
    """Start a process for each GPU."""
    available = torch.cuda.device_count()
    if num_gpus is not None and num_gpus > available:
        raise SgResnetsError(f"num_gpus={num_gpus}, but there are {available} GPUs: set num_gpus={available}")
    launch(num_gpus or available)


def initialize_with_global_rank(original: Callable[[], None]) -> None:
    """Join with the rank in the node, which names the GPU, and go on with the global one."""
    join("nccl")
    device_config.assigned_rank = int(os.environ.get("LOCAL_RANK", device_config.assigned_rank))
    original()
    adopt_global_rank()


def seed_by_global_rank(original: Callable[..., None], is_ddp: bool, device: Any, seed: int) -> None:
    """Give each process its own random numbers, on all nodes."""
    integer(0)("training_hyperparams.seed", seed)
    seed += dist.get_rank() if is_ddp and dist.is_initialized() else 0
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def may_leave_unused(network: nn.Module, training_params: Any) -> bool:
    """Whether a step may have no gradient for a parameter: one that the recipe freezes, or of a module that is not
    ours."""
    rates = get_param(training_params, "initial_lr")
    frozen = (isinstance(rates, Mapping) and 0 in rates.values()) or get_param(training_params, "finetune", False)
    ours = ("torch.", "torchvision.ops.", "sg_resnets.")
    return frozen or any(not type(module).__module__.startswith(ours) for module in network.modules())


def wrap_in_ddp(original: Callable[[Trainer], None], self: Trainer) -> None:
    """Search for unused parameters only where there may be some."""
    if device_config.multi_gpu != DDP:
        return original(self)
    self.net.to(device_config.device)
    if get_param(self.training_params, "sync_bn", False) and device_config.is_cuda:
        self.net = nn.SyncBatchNorm.convert_sync_batchnorm(self.net)
    search = get_param(self.training_params, "find_unused_parameters")
    self.net = DistributedDataParallel(
        self.net,
        device_ids=[torch.device(device_config.device).index] if device_config.is_cuda else None,
        find_unused_parameters=may_leave_unused(self.net, self.training_params) if search is None else search,
    )


@contextmanager
def each_once(loader: DataLoader) -> Iterator[None]:
    """While open, a loader goes over its data once. PyTorch's DistributedSampler repeats some samples, so that all
    processes have as many, and their accuracy is then not that of the data."""
    sampler = sampler_of(loader)
    if type(sampler) not in (DistributedSampler, DistributedSamplerWrapper) or sampler.drop_last:
        yield
        return
    # The sampler within a wrapper may draw, and each process would draw otherwise.
    everything = [list(getattr(sampler, "sampler", range(len(loader.dataset))))]  # type: ignore[arg-type]
    dist.broadcast_object_list(everything, 0)
    loader.batch_sampler.sampler = everything[0][sampler.rank :: sampler.num_replicas]  # type: ignore[union-attr]
    try:
        yield
    finally:
        loader.batch_sampler.sampler = sampler  # type: ignore[union-attr]


def evaluate_like_rank_0(
    original: Callable[..., Any], self: Trainer, data_loader: DataLoader, *args: Any, **kwargs: Any
) -> Any:
    """Evaluate every image once, with the batch-norm statistics of rank 0, which are the ones that are saved. The bare
    network is run: nothing is synchronised then, and processes may have other numbers of batches."""
    if device_config.multi_gpu != DDP:
        return original(self, data_loader, *args, **kwargs)
    wrapped, self.net = self.net, unwrap_model(self.net)
    for buffer in self.net.buffers():
        dist.broadcast(buffer, 0)
    try:
        with each_once(data_loader):
            return original(self, data_loader, *args, **kwargs)
    finally:
        self.net = wrapped


def let_gloo_finish(original: Callable[..., Any], self: Trainer, *args: Any, **kwargs: Any) -> Any:
    """Give gloo's threads time to let go of the last tensors. What destroys the network afterwards waits for them with
    Python's lock in its hand, which they want in turn (seen with PyTorch 2.6, in ~ProcessGroupGloo)."""
    try:
        return original(self, *args, **kwargs)
    finally:
        if device_config.multi_gpu == DDP and not device_config.is_cuda:
            time.sleep(SECONDS_OF_GLOO)


REPAIRS = (
    Repair(
        "distributed",
        "no processes on CPUs, none in step under torchrun, no second node; unused parameters are searched in every "
        "step; evaluation pads the data",
        [
            Patch(host_ddp, "setup_device", set_up_cpu_processes),
            Patch(host_ddp, "restart_script_with_ddp", restart_on_gpus),
            Patch(host_ddp, "initialize_ddp", initialize_with_global_rank),
            Patch(host_utils, "random_seed", seed_by_global_rank),
            Patch(Trainer, "_net_to_device", wrap_in_ddp),
            Patch(Trainer, "evaluate", evaluate_like_rank_0),
            Patch(Trainer, "train", let_gloo_finish),
        ],
    ),
)
