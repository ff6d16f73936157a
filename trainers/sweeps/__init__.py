"""Many runs in one folder: what a sweep writes down of its jobs, and what became of them."""
