"""The verbs, one file each: plan decides, apply acts."""
