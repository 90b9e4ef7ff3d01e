"""The way to the cloud, driven whole on this machine: real programs against an emulated cloud."""
