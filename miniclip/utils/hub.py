"""An unreachable Hub must not hang anybody: ask once, then work from the local cache."""

import functools
import logging
import os
from pathlib import Path

import datasets
from huggingface_hub import constants
from huggingface_hub.utils import get_session

logger = logging.getLogger(__name__)


def is_local(name: str) -> bool:
    """Whether `name` is a file or folder here, as opposed to a Hub id (`owner/name`)."""
    return Path(name).expanduser().exists()


def looks_like_path(name: str) -> bool:
    """Whether the user meant a path, so that a missing one is not looked up on the Hub."""
    return name.startswith(("/", ".", "~")) or name.count("/") > 1


def go_offline_if_unreachable(*names: str | None, timeout: float = 3.0) -> None:
    """
    Before anything named by a Hub id is loaded: without the Hub, use cached copies and fail at once on others.

    Left to itself huggingface_hub retries every file for 23 seconds.
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
    except Exception:  # whatever the reason (name, route, proxy, certificate), it cannot be used
        return False
    return True
