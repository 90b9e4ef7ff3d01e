"""Fakes of services, and factories of test inputs."""
