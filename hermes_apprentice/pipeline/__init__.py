"""The learning half: joins the stages and moves each specialist along its life.

The only place where stages meet. ``loop`` reads, detects, asks and ticks;
``steps`` holds one idempotent function per step of a specialist; ``matching``
refits the matcher from what the registry and the traffic say.
"""

from hermes_apprentice.pipeline.loop import Pipeline, open_pipeline
from hermes_apprentice.pipeline.reports import TickReport

__all__ = ["Pipeline", "TickReport", "open_pipeline"]
