"""Simulated card payments with habits, fraud campaigns and late labels."""

from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.source import LiveEvent, SimulatorSource

__all__ = ["LiveEvent", "SimulatorConfig", "SimulatorSource"]
