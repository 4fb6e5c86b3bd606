"""Three-way merge: values in, values out. Pure."""
