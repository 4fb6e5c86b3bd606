"""What is measured, as commands that print ratios measured in one run against a limit or a peer."""
