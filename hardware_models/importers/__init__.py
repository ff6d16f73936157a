"""Look-up tables of other projects, read as blocks with their operations and milliseconds."""
