"""`friend doctor`: what works, what is missing, and how to get it."""

from bot.doctor.findings import Finding, Status
from bot.doctor.report import run_doctor

__all__ = ["Finding", "Status", "run_doctor"]
