"""Stand-ins for services, and what tests share to build their inputs."""
