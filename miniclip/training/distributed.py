"""Gathering embeddings across processes, with gradients and with unequal batch sizes."""

import torch
import torch.distributed as dist


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process."""
    return dist.get_rank() if world_size() > 1 else 0


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        ctx.start, ctx.size = sum(sizes[: rank()]), local.shape[0]
        longest = max(sizes)
        padded = local.new_zeros(longest, *local.shape[1:])
        padded[: local.shape[0]] = local
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient[ctx.start : ctx.start + ctx.size], None


def all_gather(local: torch.Tensor) -> torch.Tensor:
    """
    The rows of all processes in rank order, `(n, ...)` -> `(sum of n, ...)`; n may differ between processes.

    The result has a gradient if every process computes the same loss from it. The gradient of a process's own rows is
    then a slice of the gradient that the process computes anyway, and nothing needs to be sent back.
    (`accelerator.gather` carries no gradient. `torch.distributed.nn.all_gather` needs equal sizes and sums over the
    processes, which would count the shared loss once per process.)
    """
    if world_size() == 1:
        return local
    size = torch.tensor([local.shape[0]], device=local.device)
    sizes = [torch.empty_like(size) for _ in range(world_size())]
    dist.all_gather(sizes, size)
    if not any(sizes):
        return local
    return _AllGather.apply(local.contiguous(), [int(size) for size in sizes])


def largest_of_processes(value: int, device: torch.device) -> int:
    """The largest `value` of any process; every process gets the same answer."""
    if world_size() == 1:
        return value
    largest = torch.tensor([value], device=device)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return int(largest.item())


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is true on at least one process; every process gets the same answer."""
    return bool(largest_of_processes(int(flag), device))
