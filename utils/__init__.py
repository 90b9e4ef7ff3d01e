"""Small programs for the repository itself."""
