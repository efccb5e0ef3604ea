"""What every script of the workflow shares: its log file, its record, and errors that a person can read."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from penumbra.errors import PenumbraError
from penumbra.provenance.code_digest import SOURCE
from penumbra.provenance.record import Recorder


@contextmanager
def job(snakemake: Any, about: Callable[[Any], dict[str, Any]] | None = None) -> Iterator[logging.Logger]:
    """Run a script's body with a log; write its record if it succeeds, end it with a readable message if it fails.

    ``about`` gives, from the same object, what else the record tells of the job's subject.

    Messages go to the rule's log file and to the screen; a log that cannot be written (full disk) stops nothing. A
    :class:`PenumbraError` ends the job with its message alone; any other error is a defect of Penumbra: its trace goes
    to the log, and the message says where that is.
    """
    log_file = str(snakemake.log[0])
    logging.raiseExceptions = False
    logger = logging.getLogger("penumbra")
    logger.setLevel(logging.INFO)
    to_screen = logging.StreamHandler(sys.stderr)
    to_screen.setLevel(logging.WARNING)
    to_screen.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.handlers = [to_screen]
    try:
        os.makedirs(os.path.dirname(log_file), exist_ok=True)
        to_file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(to_file)
    except OSError as error:
        logger.warning("there will be no log: %s: %s", log_file, error.strerror)
    name = " ".join([snakemake.rule, *(f"{k}={v}" for k, v in dict(snakemake.wildcards).items())])
    logger.info("start: %s", name)
    try:
        recorder = Recorder(snakemake, SOURCE.parent)
        yield logger
        recorder.write(about(snakemake) if about else None)
    except PenumbraError as error:
        logger.error("%s failed\n%s", name, error)
        raise SystemExit(1) from None
    except MemoryError:
        logger.error("%s ran out of memory; give the rule more mem_mb, see docs/cluster.md", name)
        raise SystemExit(1) from None
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            cure = "look at the file, its permissions and its disk; a file of the results is made again by --forcerun"
            logger.error("%s failed\n%s", name, PenumbraError(str(error.strerror), file=error.filename, cure=cure))
            raise SystemExit(1) from None
        logger.info("%s", traceback.format_exc())
        logger.error(
            "%s failed in a way that Penumbra did not foresee: %s: %s\n  the trace is in %s",
            name, type(error).__name__, error, log_file,
        )  # fmt: skip
        raise SystemExit(1) from None
    logger.info("done: %s", name)
