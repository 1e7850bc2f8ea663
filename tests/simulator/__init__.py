"""Tests of the simulator, module by module."""
