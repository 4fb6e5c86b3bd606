"""Contract suites, FaultyHost, memory drivers: shipped, imported by nobody in wye."""
