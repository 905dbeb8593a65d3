"""Work that resumes: folders under way, locks, child processes and Ray. Knows no index and no model."""
