"""Addresses that are reached without a proxy: a proxy knows nothing of this machine, and may never answer."""

import os
from collections.abc import MutableMapping

_DIRECT = ("localhost", "127.0.0.1", "::1", "169.254.169.254")
"""This machine, and the address at which a cloud's machine asks for its own metadata."""


def exempt_loopback(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let every library of this process reach this machine directly; what is exempt already stays so.

    Libraries differ in what they read: most take `no_proxy` in small or in capital letters, and one of them alone where
    both are set. gRPC takes `no_grpc_proxy` in place of it, and does not know `*`, which stands for everything.
    """
    small, capital = environment.get("no_proxy"), environment.get("NO_PROXY")
    environment["no_proxy"] = _extended(small or capital or "")
    environment["NO_PROXY"] = _extended(capital or small or "")
    environment["no_grpc_proxy"] = _extended(environment.get("no_grpc_proxy") or small or capital or "", everything="")


def _extended(value: str, everything: str = "*") -> str:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if everything in names:
        return everything  # `*` beside other names would be one of them to some libraries
    return ",".join([*names, *(name for name in _DIRECT if name not in names)])
