"""compose.yaml → Spec. Pure but for reading the files it is given."""
