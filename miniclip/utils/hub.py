"""Nobody should wait for an unreachable Hub: ask once, then work from the local cache."""

import functools
import logging
import os
from pathlib import Path

import datasets
from huggingface_hub import constants
from huggingface_hub.utils import get_session

logger = logging.getLogger(__name__)


def is_local(name: str) -> bool:
    """Whether `name` is a local file or folder, and not a Hub id (`owner/name`)."""
    return Path(name).expanduser().exists()


def looks_like_path(name: str) -> bool:
    """Whether a name looks like a path. If it is missing, it is not looked up on the Hub."""
    return name.startswith(("/", ".", "~")) or name.count("/") > 1


def go_offline_if_unreachable(*names: str | None, timeout: float = 3.0) -> None:
    """
    If the Hub cannot be reached, use cached copies only, and fail at once for anything else.

    Call this before loading anything by a Hub id. By default, huggingface_hub retries every file for 23 seconds.
    """
    remote = [name for name in names if name and not is_local(name)]
    if remote and not constants.HF_HUB_OFFLINE and not _hub_answers(timeout):
        logger.warning("%s cannot be reached: using cached copies only", constants.ENDPOINT)
        constants.HF_HUB_OFFLINE = True
        datasets.config.HF_HUB_OFFLINE = True
        os.environ["HF_HUB_OFFLINE"] = "1"  # for data loader workers and other processes started from here


@functools.lru_cache(maxsize=1)
def _hub_answers(timeout: float) -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=timeout)
    except Exception:  # whatever the reason (name, route, proxy, certificate), the Hub cannot be used
        return False
    return True
