"""The typed rows of an input by day, so that a run reads only files that are new or changed.

`joined` is what an outsider uses: `JoinedStore.update` brings the store up to date and gives a `rows.Snapshot`. `rows`
has the transactions, `labels` the label table if there is one. Both look at their files with `inputs` and publish with
`states`; `manifest` and `label_manifest` say what a state consists of. `canonical` makes rows of a file, `days` makes
files of rows, `repeats` finds transaction ids that rows of several days have, `placing` the days of labels.
"""
