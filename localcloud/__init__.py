"""This machine as the cloud: an emulator of the Yandex Cloud API that really runs Data Proc jobs.

See `docs/emulator.md`.
"""
