"""The flow: steps that declare what they read and write, and the runner that keeps every day of every table up to date."""

from segue.flows.ledger import Ledger
from segue.flows.registry import Read, Step, step
from segue.flows.runner import Runner, StepProgress
from segue.flows.steps import BUILD, FLOW, PUBLISH
from segue.flows.task import Task

__all__ = ["BUILD", "FLOW", "PUBLISH", "Ledger", "Read", "Runner", "Step", "StepProgress", "Task", "step"]
