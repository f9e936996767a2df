"""RQ as the doorbell: Redis carries "something is due in queue X", the database says what.

The only package that imports ``rq`` and ``django_rq``.
"""

from .jobs import StageJob, run_job
from .transport import RqTransport

__all__ = ["RqTransport", "StageJob", "run_job"]
