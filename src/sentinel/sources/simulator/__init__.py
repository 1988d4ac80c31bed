"""Simulated card payments with habits, fraud campaigns, late labels, and answers to decisions."""

from sentinel.sources.simulator.answering import AnsweringWorld
from sentinel.sources.simulator.behaviour import Behaviour
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.live import LiveEvent
from sentinel.sources.simulator.source import SimulatorSource

__all__ = ["AnsweringWorld", "Behaviour", "LiveEvent", "SimulatorConfig", "SimulatorSource"]
