"""Other people's protocols onto the same verbs."""
