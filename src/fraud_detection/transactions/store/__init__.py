"""The typed rows of an input by day, so that a run reads only files that are new or changed.

`rows` is what an outsider uses: `RowStore.update` brings the store up to date and gives a `Snapshot`. `manifest` says
what a snapshot consists of. `canonical` makes rows of a file, `days` makes files of rows, `repeats` finds transaction
ids that rows of several days have.
"""
