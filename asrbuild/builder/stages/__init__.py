"""The stages of a build, one file each: what it reads, what it comes after, and what it does."""
