"""A first settings file for foreign data, and what a run would make of the data: `init` and `check-data`.

`initialize` looks at the files and guesses; `check` reads them under the contract. What the guesses rest on is said in
`docs/your-data.md`.
"""
