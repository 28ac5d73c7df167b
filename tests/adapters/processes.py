"""What each of two processes does in the tests of distributed training; started by ``test_distributed``."""

from __future__ import annotations

import datetime
import warnings

import torch
from onnxmark_torch import MarginStop, TargetError, Watermark
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from tests.adapters.reference import LAYER, batch, parameters, sgd, subject, task_loss
from tests.adapters.subjects import make_key

N_PROCESSES = 2
STRENGTH = 0.5
KEY = make_key()
# A mean over filters fits any number of them: the only mark that a part of a layer can be mistaken for.
MEAN_KEY = make_key(carrier="mean-ihw")


def half(rank):
    """This process's half of the batch."""
    images, labels = batch()
    return images[rank::N_PROCESSES], labels[rank::N_PROCESSES]


def sharded(width=16):
    """The network under FSDP2, every layer on its own."""
    from torch.distributed.fsdp import fully_shard

    model = subject(width)
    for module in (model.stem, model.body, model.head):
        fully_shard(module)
    return fully_shard(model)


def ddp_attached(rank):
    """Right: every rank adds, nobody communicates."""
    model = DistributedDataParallel(subject())
    optimizer = sgd(model)
    Watermark(KEY, LAYER, STRENGTH).attach(optimizer, model)
    task_loss(model, *half(rank)).backward()
    optimizer.step()
    return parameters(model)


def ddp_loss(rank):
    """Right: every rank's loss holds the mark, and DistributedDataParallel averages what is the same."""
    model = DistributedDataParallel(subject())
    (task_loss(model, *half(rank)) + Watermark(KEY, LAYER, STRENGTH).loss(model)).backward()
    sgd(model).step()
    return parameters(model)


def ddp_first_rank_only(rank):
    """Wrong: replicas part."""
    model = DistributedDataParallel(subject())
    task_loss(model, *half(rank)).backward()
    if rank == 0:
        Watermark(KEY, LAYER, STRENGTH).add_grad_(model)
    sgd(model).step()
    return parameters(model)


def ddp_loss_on_first_rank(rank):
    """Wrong: the average halves it."""
    model = DistributedDataParallel(subject())
    loss = task_loss(model, *half(rank))
    if rank == 0:
        loss = loss + Watermark(KEY, LAYER, STRENGTH).loss(model)
    loss.backward()
    sgd(model).step()
    return parameters(model)


def gathered(model):
    """Whole parameters of a sharded network."""
    return {name: parameter.full_tensor() for name, parameter in parameters(model).items()}


def fsdp_attached(rank, width=16, key=KEY):
    """Right."""
    model = sharded(width)
    optimizer = sgd(model)
    Watermark(key, LAYER, STRENGTH).attach(optimizer, model)
    task_loss(model, *half(rank)).backward()
    optimizer.step()
    return gathered(model)


def fsdp_uneven(rank):
    """Right, with 15 filters on two ranks."""
    return fsdp_attached(rank, 15, make_key((15, 8, 3, 3)))


def fsdp_mean(rank):
    """Right, with the mean over filters that live on different ranks."""
    return fsdp_attached(rank, key=MEAN_KEY)


def fsdp_loss(rank):
    """Right: the gradient flows back through the gathering."""
    model = sharded()
    (task_loss(model, *half(rank)) + Watermark(KEY, LAYER, STRENGTH).loss(model)).backward()
    sgd(model).step()
    return gathered(model)


def fsdp_local_part(rank):
    """Wrong: the mark of this rank's filters alone."""
    model = sharded()
    task_loss(model, *half(rank)).backward()
    part = torch.nn.Conv2d(8, 8, 3, bias=False)
    part.weight = torch.nn.Parameter(model.body.weight.to_local().detach())
    Watermark(MEAN_KEY, "0", STRENGTH).add_grad_(torch.nn.Sequential(part))
    model.body.weight.grad.to_local().add_(part.weight.grad)
    sgd(model).step()
    return gathered(model)


def fsdp_capped(rank):
    """The norms that a cap compares are those of whole gradients."""
    model = sharded()
    task_loss(model, *half(rank)).backward()
    task = model.body.weight.grad.full_tensor().clone()
    Watermark(KEY, LAYER, STRENGTH, cap=0.5).add_grad_(model)
    return {"task": task, "sum": model.body.weight.grad.full_tensor()}


def fsdp_reported(rank):
    """A report gathers."""
    report = Watermark(KEY, LAYER, STRENGTH).report(sharded())
    return {"margin": torch.tensor(report.min_margin), "errors": torch.tensor(report.bit_error_rate)}


def fsdp_stopped(rank):
    """Pulled until the margin is reached, which every rank has to find in the same step."""
    model = sharded()
    optimizer = sgd(model)
    mark = Watermark(KEY, LAYER, STRENGTH, stop=MarginStop(0.5, every=1))
    steps = 0
    while not mark.state_dict()["stopped"] and steps < 100:
        optimizer.zero_grad()
        mark.add_grad_(model)
        optimizer.step()
        steps += 1
    return {"steps": torch.tensor(steps), "margin": torch.tensor(mark.report(model).min_margin)}


def fsdp_sharded_after_attaching(rank):
    """Refused: the optimizer holds the parameters from before."""
    from torch.distributed.fsdp import fully_shard

    model = subject()
    optimizer = sgd(model)
    Watermark(KEY, LAYER, STRENGTH).attach(optimizer, model)
    fully_shard(model)
    try:
        optimizer.step()
    except TargetError as error:
        return {"message": str(error)}
    return {"message": "nothing was refused"}


CASES = (
    ddp_attached,
    ddp_loss,
    ddp_first_rank_only,
    ddp_loss_on_first_rank,
    fsdp_attached,
    fsdp_uneven,
    fsdp_mean,
    fsdp_loss,
    fsdp_local_part,
    fsdp_capped,
    fsdp_reported,
    fsdp_stopped,
    fsdp_sharded_after_attaching,
)


def work(rank, folder):
    """Run every case and save what it returned."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    distributed.init_process_group(
        "gloo",
        store=distributed.FileStore(f"{folder}/store", N_PROCESSES),
        rank=rank,
        world_size=N_PROCESSES,
        timeout=datetime.timedelta(seconds=60),
    )
    try:
        results = {case.__name__: case(rank) for case in CASES}
        torch.save(results, f"{folder}/{rank}.pt")
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
