"""Transactions as the rest of the system knows them: mapped, checked, each once; and what was wrong with the others.

`columns` declares the canonical columns; `reader` reads the input into them. The contract with the data's owner is in
`docs/data.md`.
"""
