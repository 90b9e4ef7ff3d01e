"""The features by day, so that only days are computed that are new or that a late row or label has changed.

`validity` says what the features of a day depend on, as a hash. `files` keeps the days under their hashes: what is kept
under another hash is computed again. `computing` has the engine's workers write the files, and reads them.
`features.between` takes days from here and computes the others.
"""
