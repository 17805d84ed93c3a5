"""Programs that look for inputs that break a promise. A short run of each is a test; long runs are by hand."""
