"""Processes of a test that train together."""

from datetime import timedelta

import torch


def join(rank, folder, world=2):
    """Into a Gloo group, which meets in the folder."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=timedelta(minutes=2),
    )
